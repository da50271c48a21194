"""What our trainer changes of TRL's, on runs of a few steps."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file
from trl import GRPOTrainer

from vlreward.errors import ConfigError, RewardError
from vlreward.rewards.base import Reward
from vlreward.rewards.composite import Term
from vlreward.run import RunFolder, quiet
from vlreward.types import RewardOutput
from vlreward.vlm.config import TrainVLM
from vlreward.vlm.evaluate import answer
from vlreward.vlm.policy import read
from vlreward.vlm.sampler import PromptSampler
from vlreward.vlm.train import train
from vlreward.vlm.trainer import VLGRPOTrainer

REPLACED = [name for name, value in vars(VLGRPOTrainer).items() if inspect.isfunction(value) and hasattr(GRPOTrainer, name)]


@dataclass(kw_only=True)
class Breaks(Reward):
    """Scores the text's length; the judge breaks on the first rollout of each group and gives infinity on the second's."""

    kind = "breaks"
    needs = ("text",)
    bounds = (0.0, 1000.0)

    def batch(self, rollouts):
        self.seen = list(rollouts)
        scores = torch.arange(len(rollouts), dtype=torch.float64)
        scores[1] = float("inf")
        errors: list[str | None] = [None] * len(rollouts)
        errors[0] = str(RewardError("no answer from the judge"))
        return RewardOutput(scores=scores, errors=errors)


@dataclass(kw_only=True)
class Pleased(Reward):
    """1 for everything."""

    kind = "pleased"

    def one(self, rollout):
        return 1.0


def trainer(config: TrainVLM) -> VLGRPOTrainer:
    folder = RunFolder.open(config.run, "train-vlm", config)
    with quiet("transformers", "datasets"):
        return VLGRPOTrainer(config, folder, *read(config.policy.model), config.data.samples())


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder.path / "policy" / "model.safetensors")


def figures(folder) -> list[dict]:
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "tokens/"))} for row in folder.read("metrics.jsonl")]


@pytest.mark.parametrize("name", [name for name in REPLACED if name != "__init__"])
def test_replaced_method_has_the_signature_of_trls(name):
    theirs, ours = (inspect.signature(getattr(cls, name)).parameters.values() for cls in (GRPOTrainer, VLGRPOTrainer))
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


def test_docstring_of_the_module_lists_every_replaced_method():
    import vlreward.vlm.trainer as module

    assert all(name in (module.__doc__ or "") for name in REPLACED if name != "__init__")


def test_broken_and_infinite_judgements_get_no_advantage_and_stay_out_of_their_group(small):
    config = small(group={"size": 4, "prompts": 2})
    config.rewards.terms = tuple(Term(name=r.kind, weight=1.0, reward=r) for r in (Breaks(), Pleased()))
    made = trainer(config)
    with quiet("transformers", "datasets"):
        out = made._generate_and_score_completions([{"row": row, "prompt": []} for row in [0] * 4 + [1] * 4])
    advantage = out["advantages"]
    assert advantage[0] == 0
    assert advantage[1] == 0
    assert torch.allclose(advantage[2:4].abs(), torch.tensor(0.7071).expand(2), atol=1e-3), "two values left: -1 and +1 over sqrt(2)"
    assert advantage[4:].sum().abs() < 1e-5
    assert made.figures["broken"] == 2
    assert [rollout.group for rollout in config.rewards.terms[0].reward.seen] == [0] * 4 + [1] * 4
    assert made.group_B.dtype == torch.int64


def test_one_composite_call_judges_a_whole_batch(small):
    config = small(group={"size": 3, "prompts": 2, "micro_batch": 2})
    calls = []

    class Counting(type(config.rewards)):
        def __call__(self, rollouts, device="cpu"):
            calls.append(len(rollouts))
            return super().__call__(rollouts, device)

    config.rewards.__class__ = Counting
    with quiet("transformers", "datasets"):
        trainer(config).train()
    assert calls == [6, 6]


def test_prompt_sampler_keeps_groups_together_and_covers_the_data_each_pass():
    rows = list(PromptSampler(num_rows=7, prompts=3, size=2, repeats=2, chunks=4, seed=0))
    assert len(rows) == 4 * 3 * 2 * 2
    chunks = [rows[i : i + 6] for i in range(0, len(rows), 6)]
    assert all(chunk == chunk_again for chunk, chunk_again in zip(chunks[::2], chunks[1::2], strict=True))
    assert all(a == b for a, b in zip(rows[::2], rows[1::2], strict=True))
    assert max(Counter(chunks[0][::2] + chunks[2][::2]).values()) == 1, "a prompt came twice in one pass"
    assert chunks[4][::2] != chunks[0][::2], "the second pass repeats the order of the first"
    assert rows != list(PromptSampler(num_rows=7, prompts=3, size=2, repeats=2, chunks=4, seed=1))


def test_two_runs_are_bit_equal_and_another_seed_differs(small):
    first, second = train(small("first")), train(small("second"))
    config = small("third")
    object.__setattr__(config.run, "seed", 4)
    third = train(config)
    assert figures(first) == figures(second)
    assert all(torch.equal(value, weights(second)[name]) for name, value in weights(first).items())
    assert any(not torch.equal(value, weights(third)[name]) for name, value in weights(first).items())


def test_distance_to_the_first_policy_is_zero_at_the_first_step(small):
    first, second = train(small(trl={"beta": 0.1})).read("metrics.jsonl")
    assert first["loss/kl"] == pytest.approx(0, abs=1e-6)
    assert second["loss/kl"] > 1e-6


def test_vision_tower_and_words_both_train(small):
    config = small(group={"size": 6, "prompts": 2})
    before = {name: value.clone() for name, value in read(config.policy.model)[0].state_dict().items()}
    after = read(str(train(config).path / "policy"))[0].state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert any("visual.patch_embed" in name for name in moved)
    assert any("language_model.layers.0" in name for name in moved)


def test_run_folder_holds_figures_rollouts_with_boxes_and_gains(small):
    held_out = {"kind": "tiny", "task": "grounding", "count": 6, "holdout": True}
    folder = train(small(eval={"data": held_out, "batch": 4}, logged=2))
    rows = folder.read("metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2]
    wanted = {"reward/box_iou", "reward/answer_format", "reward/total", "loss/policy", "entropy", "length", "clip_fraction", "broken",
              "dead_fraction", "grad_norm", "time/rollout", "time/reward", "time/update"}  # fmt: skip
    assert wanted <= rows[0].keys()
    logged = folder.read("rollouts.jsonl")
    assert Counter(row["phase"] for row in logged) == {"before": 6, "train": 4, "after": 6}
    assert all(any(mark["role"] == "wanted" for mark in row["marks"]) for row in logged)
    assert any(mark["role"] == "answered" for row in logged for mark in row["marks"])
    held = json.loads((folder.path / "summary.json").read_text())["held_out"]["box_iou"]
    before, after = ([row["scores"]["box_iou"] for row in folder.read(f"evaluation_{phase}.jsonl")] for phase in ("before", "after"))
    assert held["gain"] == pytest.approx(sum(after) / 6 - sum(before) / 6)
    assert held["gain_low"] < held["gain"] < held["gain_high"]
    assert held["before_low"] < held["before"] < held["before_high"]


@pytest.mark.parametrize("blocks", [{}, {"trl": {"beta": 0.1}}, {"group": {"size": 3, "prompts": 2, "micro_batch": 3}}])
def test_a_run_on_shared_prefixes_has_the_figures_of_the_padded_run(small, blocks):
    policy = {"model": small().policy.model, "max_new_tokens": 12}
    ours = figures(train(small("ours", **blocks, policy=policy)))
    theirs = figures(train(small("theirs", **blocks, policy=policy | {"shared_prefix": False})))
    for row, expected in zip(ours, theirs, strict=True):
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_micro_batches_hold_whole_groups(small):
    made = trainer(small(group={"size": 3, "prompts": 4, "micro_batch": 3}))
    seen = []

    def loss(model, inputs):
        seen.append(inputs["row"].tolist())
        return VLGRPOTrainer._compute_loss(made, model, inputs)

    made._compute_loss = loss
    with quiet("transformers", "datasets"):
        made.train()
    assert len(seen) == 8
    assert all(len(set(rows)) == 1 for rows in seen)
    assert len({rows[0] for rows in seen[:4]}) == 4


def test_each_sample_is_read_once_a_batch_and_its_prompt_goes_through_the_model_once_to_answer(small, monkeypatch):
    made = trainer(small(group={"size": 3, "prompts": 2}))
    pictures, reads = [], []
    processor = type(made.processing_class.image_processor)
    usual = processor.__call__

    def counting(self, images, *args, **options):
        pictures.append(images)
        return usual(self, images, *args, **options)

    monkeypatch.setattr(processor, "__call__", counting)
    made.model.model.visual.register_forward_hook(lambda module, inputs, output: reads.append(len(inputs[0])))
    with quiet("transformers", "datasets"):
        made._generate_and_score_completions([{"row": row, "prompt": []} for row in [0] * 3 + [1] * 3])
    assert len(pictures) == 2
    patches = [len(made.known[row].media["pixel_values"]) for row in (0, 1)]
    assert reads == [sum(patches)]


def test_a_model_that_cannot_share_is_refused_with_the_remedy(small):
    config = small()
    policy, processor = read(config.policy.model)
    policy.config.text_config._attn_implementation = "flash_attention_2"
    with pytest.raises(ConfigError, match=r"flash_attention_2.*set it to false"):
        VLGRPOTrainer(config, RunFolder.open(config.run, "train-vlm", config), policy, processor, config.data.samples())


def test_a_lora_leaves_the_policy_as_it_was_and_its_folder_is_read_merged(small):
    policy = {"model": small().policy.model, "max_new_tokens": 12}
    first, _ = read(policy["model"])
    held_out = {"kind": "tiny", "task": "grounding", "count": 4, "holdout": True}
    folder = train(small(policy=policy | {"lora": 4}, trl={"beta": 0.1}, eval={"data": held_out}))
    kept = load_file(folder.path / "policy" / "adapter_model.safetensors")
    assert all("language_model" in name and "lora_" in name for name in kept)
    assert not (folder.path / "policy" / "model.safetensors").exists()
    merged, processor = read(str(folder.path / "policy"))
    changed = {name for name, value in merged.state_dict().items() if not torch.equal(value, first.state_dict()[name])}
    assert {name.rsplit(".", 2)[1] for name in changed} == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    samples = small(data=held_out).data.samples()
    texts = [rollout.text for rollout in answer(merged, processor, samples, temperature=1.0, max_new_tokens=12, batch=64, seed=0)]
    assert texts == [row["text"] for row in folder.read("rollouts.jsonl") if row["phase"] == "after"]


def test_a_frozen_vision_tower_stays_as_it_was(small):
    first = read(small().policy.model)[0].state_dict()
    folder = train(small(policy={"model": small().policy.model, "max_new_tokens": 12, "freeze_vision": True}))
    after = read(str(folder.path / "policy"))[0].state_dict()
    moved = {name for name, value in first.items() if not torch.equal(value, after[name])}
    assert moved
    assert not any("visual" in name for name in moved)
