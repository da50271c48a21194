"""What the trainer does around a batch's advantages: fresh prompts for dull groups, credit by token, likelihoods, bounded ratios."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from vlreward.errors import ConfigError
from vlreward.rewards.base import Reward
from vlreward.rewards.composite import Term
from vlreward.run import RunFolder, quiet
from vlreward.vlm.policy import read
from vlreward.vlm.rounds import share
from vlreward.vlm.trainer import VLGRPOTrainer


@dataclass(kw_only=True)
class Dull(Reward):
    """1 for every answer to some samples, for others another number each time."""

    dull: tuple[str, ...] = ()
    kind = "dull"
    needs = ("text",)
    bounds = (0.0, 10.0)

    def one(self, rollout):
        self.asked = [*getattr(self, "asked", []), rollout.sample.id]
        return 1.0 if rollout.sample.id in self.dull else len(self.asked) % 5 + 0.5


def trainer(config) -> VLGRPOTrainer:
    with quiet("transformers", "datasets"):
        return VLGRPOTrainer(config, RunFolder.open(config.run, "train-vlm", config), *read(config.policy.model), config.data.samples())


def batch(made: VLGRPOTrainer, rows: list[int]) -> dict:
    with quiet("transformers", "datasets"):
        return made._generate_and_score_completions([{"row": row, "prompt": []} for row in rows])


def with_reward(config, reward: Reward):
    config.rewards.terms = (Term(name="dull", weight=1.0, reward=reward),)
    return config


def small_policy(tokens: int) -> dict:
    return {"model": "assets/tiny-vlm", "max_new_tokens": tokens}


def ids(config) -> list[str]:
    return [sample.id for sample in config.data.samples()]


def test_groups_that_teach_nothing_give_way_to_fresh_prompts(small):
    config = small(group={"size": 3, "prompts": 2}, sampling={"rounds": 4})
    reward = Dull(dull=tuple(ids(config)[:4]))
    made = trainer(with_reward(config, reward))
    out = batch(made, [0] * 3 + [5] * 3)
    rows = out["row"].tolist()
    assert rows[:3] == [5] * 3, "the group that was worth it is kept"
    assert rows[3] in (4, 6, 7)
    assert len(set(rows)) == 2
    assert bool((out["advantages"].view(2, 3).std(1) > 0).all())
    assert made.figures["dead_fraction"] == 0
    assert made.figures["sampled_groups"] == len(reward.asked) / 3 >= 3
    assert [rollout.sample.id for rollout in made.rollouts] == [ids(config)[row] for row in rows]
    assert [rollout.group for rollout in made.rollouts] == [0, 0, 0, 1, 1, 1]
    texts = made.processing_class.batch_decode(out["completion_ids"], skip_special_tokens=True)
    assert [rollout.text for rollout in made.rollouts] == texts
    assert made.table.scores.shape == (6, 1)


def test_after_the_last_round_a_step_learns_from_what_there_is(small):
    config = small(group={"size": 3, "prompts": 2}, sampling={"rounds": 2})
    made = trainer(with_reward(config, Dull(dull=tuple(ids(config)))))
    out = batch(made, [0] * 3 + [1] * 3)
    assert out["row"].tolist() == [0] * 3 + [1] * 3
    assert bool((out["advantages"] == 0).all())
    assert made.figures["sampled_groups"] == 4


def test_data_that_run_out_end_the_rounds(small):
    config = small(group={"size": 3, "prompts": 2}, sampling={"rounds": 9}, data={"kind": "tiny", "task": "grounding", "count": 3})
    made = trainer(with_reward(config, Dull(dull=tuple(ids(config)))))
    assert batch(made, [0] * 3 + [1] * 3)["row"].tolist() == [0] * 3 + [1] * 3
    assert made.figures["sampled_groups"] == 3


@pytest.mark.parametrize(("fresh", "parts"), [([4, 5, 6], [([4, 5], 2), ([6, 6], 1)]), ([4], [([4], 1), ([4], 0)])])
def test_processes_ask_the_same_number_of_prompts_and_each_prompt_counts_once(fresh, parts):
    assert [share(fresh, process, 2) for process in range(2)] == parts


def test_an_advantage_for_each_token_reaches_the_loss_and_ends_with_the_text(small):
    term = {"kind": "tagged", "of": {"kind": "box_iou"}, "tag": "answer"}
    advantage = {"kind": "segment_credit", "steps": ["tagged"]}
    made = trainer(small(rewards=[term], advantage=advantage, group={"size": 4, "prompts": 2}, policy=small_policy(24)))
    out = batch(made, [0] * 4 + [1] * 4)
    advantage, written = out["advantages"], out["completion_mask"].bool()
    assert advantage.shape == written.shape
    assert bool((advantage[~written] == 0).all())
    rows = (advantage != 0).any(1)
    assert bool(rows.any())
    assert bool(((advantage != 0).sum(1)[rows] < written.sum(1)[rows]).all()), "the tags themselves get no credit"
    assert torch.isfinite(made._compute_loss(made.model, out))


def test_a_rollout_knows_how_likely_the_policy_held_its_text(small):
    config = small(rewards=[{"kind": "box_iou"}, {"kind": "text_likelihood", "weight": 0.0}])
    made = trainer(config)
    out = batch(made, [0] * 3 + [1] * 3)
    with torch.no_grad():
        both = [torch.cat([out[f"prompt_{name}"], out[f"completion_{name}"]], 1) for name in ("ids", "mask")]
        logps, _, _ = made._get_per_token_logps_and_entropies(made.model, *both, out["completion_ids"].shape[1])
    expected = (logps.sum(1) / out["completion_mask"].sum(1)).exp()
    assert torch.allclose(torch.tensor([rollout.likelihood for rollout in made.rollouts]), expected, atol=1e-5)
    assert made.table.scores[:, 1].tolist() == [rollout.likelihood for rollout in made.rollouts]


def test_likelihoods_without_the_shared_forward_are_refused(small):
    policy = small_policy(12) | {"shared_prefix": False}
    with pytest.raises(ConfigError, match="only the shared forward gives") as caught:
        small(rewards=[{"kind": "text_likelihood"}], policy=policy)
    assert caught.value.key == "policy.shared_prefix"


def test_ratios_are_bounded_before_the_loss(small):
    made = trainer(small(ratio_clip=[0.5, 2.0]))
    made.old = torch.tensor([[-1.0, -1.0, -1.0]])
    logps = torch.tensor([[-0.9, -5.0, 3.0]], requires_grad=True)
    ratio = (made.scoring.clipped(logps) - made.old).exp()
    assert ratio[0].tolist() == pytest.approx([torch.tensor(0.1).exp().item(), 0.5, 2.0])
    ratio.sum().backward()
    assert logps.grad is not None
    assert (logps.grad[0] != 0).tolist() == [True, False, False]
    with torch.no_grad():
        assert torch.equal(made.scoring.clipped(logps), logps), "old and reference log-probabilities are left as they are"
    with pytest.raises(ConfigError, match="expected bounds around 1"):
        small(ratio_clip=[2.0, 3.0])
