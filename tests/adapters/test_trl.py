"""`trl_reward` as TRL 1.16 calls it, and in a real step of its GRPOTrainer."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from datasets import Dataset
from PIL import Image
from trl import GRPOConfig, GRPOTrainer

from vlreward.adapters import trl_reward
from vlreward.adapters.rows import composite
from vlreward.advantages.gdpo import BatchPerReward
from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.rewards.answers import ExactMatch
from vlreward.rewards.shaping import Rank
from vlreward.run import quiet
from vlreward.tiny.tasks import make
from vlreward.types import RewardOutput, RewardTable
from vlreward.vlm.policy import read

SMALL, LARGE = Image.new("RGB", (8, 6)), Image.new("RGB", (20, 10))


def said(*texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


def asked(text="how many?", image=None):
    parts = [{"type": "image", "image": image}] if image else []
    return [{"role": "system", "content": "be brief"}, {"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def catch(rewards, **columns):
    """The rollouts that a reward function makes of a call."""
    terms, seen = composite(rewards), []
    inner = terms.terms[0].reward
    score = inner.score
    inner.score = lambda rollouts, device="cpu": seen.extend(rollouts) or score(rollouts, device)
    trl_reward(terms)(**columns)
    return seen


def test_the_signature_takes_every_name_that_trl_passes():
    """Read off TRL's own source: what `_calculate_rewards` passes by name besides the dataset's columns."""
    source = inspect.getsource(GRPOTrainer._calculate_rewards)
    assert "prompts=prompts, completions=completions, completion_ids=completion_ids_list, **reward_kwargs" in source
    parameters = inspect.signature(trl_reward("exact_match")).parameters
    for name in ("trainer_state", "log_extra", "log_metric", "environments"):
        assert f'reward_kwargs["{name}"]' in source
        assert name in parameters
    assert {"prompts", "completions", "completion_ids"} <= parameters.keys()
    assert any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    assert not inspect.iscoroutinefunction(trl_reward("exact_match"))


def test_columns_make_the_target_and_nothing_applicable_is_none():
    reward = trl_reward("exact_match")
    completions = said("<answer>3</answer>", "<answer>4</answer>", "<answer>3</answer>")
    assert reward([asked()] * 3, completions, answer=["3", "3", None], trainer_state=object()) == [1.0, 0.0, None]
    assert reward.__name__ == "exact_match"


def test_plain_texts_are_taken_like_conversations_and_columns_can_be_renamed():
    reward = trl_reward("exact_match", name="right", rename={"solution": "answer"})
    assert reward(["how many?"] * 2, ["<answer>3</answer>", "<answer>4</answer>"], solution=["3", "3"]) == [1.0, 0.0]
    assert reward.__name__ == "right"


def test_a_column_called_target_is_taken_whole():
    assert trl_reward("exact_match")(["?"], ["<answer>3</answer>"], target=[{"answer": "3"}]) == [1.0]


@pytest.mark.parametrize("columns", [{"image": [SMALL, LARGE]}, {"images": [[SMALL], [LARGE, SMALL]]}, {}])
def test_pictures_come_from_columns_or_from_the_prompt(columns):
    prompts = [asked(image=None if columns else picture) for picture in (SMALL, LARGE)]
    seen = catch("text_length", prompts=prompts, completions=said("a", "b"), completion_ids=[[1], [1, 2]], **columns)
    assert [rollout.visual.size for rollout in seen] == [(8, 6), (20, 10)]
    assert all(isinstance(visual, Picture) for rollout in seen for visual in rollout.sample.visuals)
    assert [rollout.num_tokens for rollout in seen] == [1, 2]
    assert [rollout.sample.prompt for rollout in seen] == ["how many?"] * 2


def test_rows_of_one_prompt_are_a_group_and_share_its_sample_id():
    columns = {"answer": ["3", "3", "4", "4"], "images": [[SMALL], [SMALL.copy()], [SMALL], [SMALL]]}
    seen = catch("exact_match", prompts=[asked()] * 4, completions=said(*"abcd"), **columns)
    assert [rollout.group for rollout in seen] == [0, 0, 2, 2]
    assert len({rollout.sample.id for rollout in seen}) == 2
    seen = catch("exact_match", prompts=[asked()] * 2, completions=said(*"ab"), answer=["3", "3"], id=["x", "y"])
    assert [rollout.sample.id for rollout in seen] == ["x", "y"]


def test_a_reward_on_groups_judges_each_prompts_completions_together():
    reward = trl_reward(Rank(of=ExactMatch()))
    completions = said("<answer>3</answer>", "<answer>9</answer>", "<answer>4</answer>", "<answer>9</answer>")
    assert reward([asked("a"), asked("a"), asked("b"), asked("b")], completions, answer=["3", "3", "4", "4"]) == [1, 0, 1, 0]


def test_a_broken_judge_gives_none_and_is_counted_in_the_log():
    logged, extra = {}, {}
    reward = trl_reward([{"kind": "exact_match"}, {"kind": "answer_format", "weight": 0.5}])
    logs = {"log_metric": logged.__setitem__, "log_extra": extra.__setitem__}
    got = reward(["?"] * 2, ["<answer>3</answer>"] * 2, answer=["3", ""], **logs)
    assert got == [1.5, None]
    assert logged == {"exact_match+answer_format/broken": 1.0}
    assert extra == {"exact_match+answer_format/exact_match": [1.0, None], "exact_match+answer_format/answer_format": [1.0, 1.0]}


def test_rewards_come_as_objects_names_lists_and_files(tmp_path):
    (tmp_path / "mine.yaml").write_text("rewards: [exact_match, {kind: answer_format, weight: 0.5}]\n")
    listed = [{"kind": "exact_match"}, {"kind": "answer_format", "weight": 0.5}]
    for rewards, wanted in (
        (ExactMatch(), 1.0),
        ("exact_match", 1.0),
        ({"kind": "exact_match", "weight": 2}, 2.0),
        (listed, 1.5),
        (composite(listed), 1.5),
        (str(tmp_path / "mine.yaml"), 1.5),
        (tmp_path / "mine.yaml", 1.5),
    ):
        assert trl_reward(rewards)(["?"], ["<answer>3</answer>"], answer=["3"]) == [wanted]
    with pytest.raises(ConfigError, match="Did you mean 'exact_match'"):
        trl_reward("exact_mtch")
    with pytest.raises(ConfigError, match="no configuration file"):
        trl_reward("nowhere.yaml")


def test_a_step_of_trls_own_trainer_gets_our_scores_and_gdpo_gives_its_advantages(tmp_path, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    samples = [make("grounding", seed) for seed in range(2)]
    rows = {
        "prompt": [[{"role": "user", "content": sample.prompt}] for sample in samples],
        "image": [sample.visuals[0].pil for sample in samples],
        "boxes": [sample.target["boxes"] for sample in samples],
    }
    terms = composite([{"kind": "box_iou"}, {"kind": "text_length", "unit": "characters", "weight": 0.1}])
    policy, processor = read("assets/tiny-vlm")
    with quiet("transformers", "datasets"):
        trainer = GRPOTrainer(
            model=policy,
            reward_funcs=[trl_reward(term.reward, name=term.name) for term in terms.terms],
            args=GRPOConfig(
                output_dir=str(tmp_path), per_device_train_batch_size=8, num_generations=4, max_completion_length=16, max_steps=1,
                bf16=False, use_cpu=True, report_to=[], logging_steps=1, save_strategy="no", reward_weights=[1.0, 0.1],
                multi_objective_aggregation="normalize_then_sum", gradient_checkpointing=False, disable_tqdm=True,
            ),
            train_dataset=Dataset.from_dict(rows),
            processing_class=processor,
        )  # fmt: skip
        trainer.train()
    logs = trainer._logs
    assert list(logs["rewards"]) == ["box_iou", "text_length"]
    scores = torch.tensor([list(column) for column in logs["rewards"].values()], dtype=torch.float64).T
    assert scores.shape == (8, 2)
    assert scores[:, 1].tolist() == [len(messages[-1]["content"]) for messages in logs["completion"]]
    assert ((scores[:, 0] >= 0) & (scores[:, 0] <= 1)).all() and scores[:, 0].max() > 0
    outputs = {name: RewardOutput(scores=column) for name, column in zip(terms.names, scores.T, strict=True)}
    table = RewardTable(names=terms.names, weights=torch.tensor([1.0, 0.1], dtype=torch.float64), scores=scores, outputs=outputs)
    ours = BatchPerReward(clip=1e9)(table, torch.tensor([0] * 4 + [1] * 4))
    assert (ours - torch.tensor(list(logs["advantages"]), dtype=torch.float64)).abs().max() < 1e-5, "TRL's are float32"
    assert not math.isclose(ours.abs().max().item(), 0)
