"""Two processes on the CPU against one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml
from safetensors.torch import load_file

from vlreward.config import resolved
from vlreward.run import RunFolder
from vlreward.vlm.train import train

REWARD = """
from dataclasses import dataclass
import torch
from vlreward.rewards.base import Reward
from vlreward.types import RewardOutput

@dataclass(kw_only=True)
class ByMember(Reward):
    \"\"\"A number that follows from a rollout's group and its place in it.\"\"\"
    needs = ("text",)

    def batch(self, rollouts):
        seen, scores = {}, []
        for rollout in rollouts:
            place = seen[rollout.group] = seen.get(rollout.group, -1) + 1
            scores.append((rollout.group * 7 + place * 5) % 11 / 11)
        return RewardOutput(scores=torch.tensor(scores, dtype=torch.float64))
"""


def test_two_processes_take_the_steps_of_one_and_write_one_folder(small, tmp_path):
    """Plain descent, since Adam makes a step of any rounding error in weights that have no gradient, as those of a key's bias.

    Answers are the likeliest ones, since each process draws with its own random numbers, so it is groups that are compared with each
    other, over all processes.
    """
    (tmp_path / "member.py").write_text(REWARD)
    held_out = {"kind": "tiny", "task": "grounding", "count": 4, "holdout": True}
    config = small(
        "one", rewards=[{"kind": f"{tmp_path}/member.py:ByMember"}], group={"size": 3, "prompts": 4, "micro_batch": 3},
        advantage={"kind": "reinforce_pp", "baseline": "batch"},
        trl={"top_k": 1, "beta": 0.05, "optim": "sgd"}, optim={"lr": 0.03, "steps": 3, "save_every": 2}, eval={"data": held_out}, logged=2,
    )  # fmt: skip
    one = train(config)
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump(resolved(config)))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "vlreward.cli"]
    done = subprocess.run(
        [*launch, "train-vlm", str(file), "run.name=two"], capture_output=True, text=True, timeout=280, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    two = RunFolder(tmp_path / "two", config.run)
    first, second = (load_file(folder.path / "policy" / "model.safetensors") for folder in (one, two))
    start = load_file("assets/tiny-vlm/model.safetensors")
    moved = max(float((value - start[name]).abs().max()) for name, value in first.items())
    apart = max(float((value - second[name]).abs().max()) for name, value in first.items())
    assert moved > 1e-4
    assert apart < 1e-2 * moved
    rows = [folder.read("metrics.jsonl") for folder in (one, two)]
    assert [row["step"] for row in rows[1]] == [1, 2, 3]
    for a, b in zip(*rows, strict=True):
        for name in ("reward/total", "dead_fraction", "entropy", "loss/kl", "grad_norm"):
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-6), name
    assert one.read("evaluation_before.jsonl") == two.read("evaluation_before.jsonl")
    assert len(two.read("rollouts.jsonl")) == 3 * 2 + 2 * 4
    assert {path.name for path in (tmp_path / "two" / "checkpoints" / "step-000003").iterdir()} >= {"rollouts-0.pt", "rollouts-1.pt"}
    assert done.stderr.count("train: 3 to do") == done.stdout.count("report: ") == 1, "only the first process speaks"
