"""Held-out evaluations in the course of a run, and the best policy instead of the last."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from killed import killed, same_policy
from safetensors.torch import load_file

from vlreward.config import load, parse, resolved
from vlreward.errors import ConfigError
from vlreward.vlm.config import TrainVLM
from vlreward.vlm.train import train

HELD_OUT = {"kind": "tiny", "task": "grounding", "count": 6, "holdout": True}
PLANTED = """
from dataclasses import dataclass
from vlreward.rewards.base import Reward

@dataclass(kw_only=True)
class Planted(Reward):
    \"\"\"Of held-out answers best at the second of three evaluations after the first; of others a different number each time.\"\"\"
    held_out: tuple[str, ...] = ()
    needs = ("text",)

    def one(self, rollout):
        asked = self.memory["asked"] = self.memory.get("asked", 0) + 1
        if rollout.sample.id not in self.held_out:
            return asked % 7 / 7
        seen = self.__dict__.setdefault("seen", SEEN)
        seen[rollout.sample.id] = seen.get(rollout.sample.id, -1) + 1
        return (0.0, 0.2, 0.9, 0.4)[min(seen[rollout.sample.id], 3)]

SEEN = {}
"""


def planned(small, name: str, lora: int = 0, **evaluation):
    policy = {"model": small().policy.model, "max_new_tokens": 12, "lora": lora}
    return small(name, policy=policy, optim={"lr": 1e-3, "steps": 6, "save_every": 3}, eval={"data": HELD_OUT, "every": 2} | evaluation)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [0, 4])
def test_the_best_policy_is_what_a_killed_and_resumed_run_saves_too(small, tmp_path, lora):
    """The kill falls after an evaluation that no checkpoint knows of."""
    config = planned(small, "whole", lora, keep_best=True)
    whole = train(config)
    resumed = train(killed(config, tmp_path, 5), resume=True)
    assert same_policy(whole, resumed)
    totals = {row["step"]: row["held_out/total"] for row in whole.read("metrics.jsonl") if "held_out/total" in row}
    assert list(totals) == [2, 4, 6]
    assert totals == {row["step"]: row["held_out/total"] for row in resumed.read("metrics.jsonl") if "held_out/total" in row}
    best = max(totals, key=lambda step: totals[step])
    for folder in (whole, resumed):
        assert json.loads((folder.path / "summary.json").read_text())["best_step"] == best
        assert [place.name for place in (folder.path / "best").iterdir()] == [f"step-{best:06d}"]
    assert whole.read("evaluation_after.jsonl") == resumed.read("evaluation_after.jsonl")
    after = [row["total"] for row in whole.read("evaluation_after.jsonl")]
    assert sum(after) / len(after) == pytest.approx(totals[best], abs=1e-6), "what is saved is what was best"


def test_an_earlier_policy_is_saved_where_it_did_better(small, tmp_path):
    (tmp_path / "planted.py").write_text(PLANTED)
    config = planned(small, "planted", keep_best=True)
    held_out = [sample.id for sample in config.eval.data.samples()]
    blocks = resolved(config) | {"rewards": [{"kind": f"{tmp_path}/planted.py:Planted", "held_out": held_out}]}
    blocks["optim"]["steps"] = 5
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(blocks))
    folder = train(load(file, [], TrainVLM)[0])
    assert [row["held_out/total"] for row in folder.read("metrics.jsonl") if "held_out/total" in row] == pytest.approx([0.2, 0.9, 0.4])
    assert json.loads((folder.path / "summary.json").read_text())["best_step"] == 4
    kept = load_file(folder.path / "best" / "step-000004" / "model.safetensors")
    saved = load_file(folder.path / "policy" / "model.safetensors")
    last = load_file(folder.path / "checkpoints" / "step-000005" / "checkpoint-5" / "model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in kept.items())
    assert not all(torch.equal(value, saved[name]) for name, value in last.items())


def test_evaluations_on_the_way_change_nothing_in_the_training(small, tmp_path):
    """Nor in what a reward remembers."""
    (tmp_path / "planted.py").write_text(PLANTED)
    made = [planned(small, name, every=every) for name, every in (("plain", 0), ("watched", 2))]
    trees = [resolved(config) | {"rewards": [{"kind": f"{tmp_path}/planted.py:Planted"}]} for config in made]
    plain, watched = (train(parse(TrainVLM, tree)) for tree in trees)
    first, second = (load_file(folder.path / "policy" / "model.safetensors") for folder in (plain, watched))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_best_of_no_evaluations_is_refused(small):
    with pytest.raises(ConfigError, match=r"eval\.every is 0") as caught:
        small(eval={"data": HELD_OUT, "keep_best": True})
    assert caught.value.key == "eval.keep_best"
