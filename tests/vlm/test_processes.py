"""Two processes on the CPU against one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from vlreward.config import resolved
from vlreward.run import RunFolder
from vlreward.vlm.config import TrainVLM
from vlreward.vlm.train import train

REWARD = """
from dataclasses import dataclass
import torch
from vlreward.rewards.base import Reward
from vlreward.types import RewardOutput

@dataclass(kw_only=True)
class ByMember(Reward):
    \"\"\"A number that follows from a rollout's group and its place in it; equal ones for some samples.\"\"\"
    dull: tuple[str, ...] = ()
    needs = ("text",)

    def batch(self, rollouts):
        seen, scores = {}, []
        for rollout in rollouts:
            place = seen[rollout.group] = seen.get(rollout.group, -1) + 1
            scores.append(0.5 if rollout.sample.id in self.dull else (rollout.group * 7 + place * 5) % 11 / 11)
        return RewardOutput(scores=torch.tensor(scores, dtype=torch.float64))
"""


def in_two_processes(config: TrainVLM, tmp_path: Path, *launcher: str) -> tuple[RunFolder, subprocess.CompletedProcess]:
    """The same run once more, launched in two processes on the CPU."""
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump(resolved(config)))
    launch = launcher or ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    done = subprocess.run(
        [sys.executable, "-m", *launch, "-m", "vlreward.cli", "train-vlm", str(file), "run.name=two"], capture_output=True, text=True,
        timeout=280, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return RunFolder(tmp_path / "two", config.run), done


def same_steps(
    one: RunFolder, two: RunFolder, weights: str = "model.safetensors", start: str = "assets/tiny-vlm/model.safetensors"
) -> None:
    """Figures and weights agree, by far closer than the weights moved."""
    first, second = (load_file(folder.path / "policy" / weights) for folder in (one, two))
    origin = load_file(start)
    moved = max(float((value - origin[name]).abs().max()) for name, value in first.items())
    apart = max(float((value - second[name]).abs().max()) for name, value in first.items())
    assert moved > 1e-4
    assert apart < 1e-2 * moved
    rows = [folder.read("metrics.jsonl") for folder in (one, two)]
    assert [row["step"] for row in rows[1]] == [row["step"] for row in rows[0]]
    for a, b in zip(*rows, strict=True):
        for name in ("reward/total", "dead_fraction", "entropy", "loss/kl", "grad_norm", "sampled_groups"):
            assert a.get(name) == pytest.approx(b.get(name), rel=1e-3, abs=1e-6), name


def test_two_processes_take_the_steps_of_one_and_write_one_folder(small, tmp_path):
    """Plain descent, since Adam makes a step of any rounding error in weights that have no gradient, as those of a key's bias.

    Answers are the likeliest ones, since each process draws with its own random numbers, so it is groups that are compared with each
    other, over all processes. Five of eight samples are dull, so a process is left with too few groups and gets some that the other
    wrote.
    """
    (tmp_path / "member.py").write_text(REWARD)
    held_out = {"kind": "tiny", "task": "grounding", "count": 4, "holdout": True}
    config = small(
        "one", rewards=[{"kind": f"{tmp_path}/member.py:ByMember", "dull": [sample.id for sample in small().data.samples()[:5]]}],
        group={"size": 3, "prompts": 4, "micro_batch": 3}, sampling={"rounds": 3},
        advantage={"kind": "reinforce_pp", "baseline": "batch"},
        trl={"top_k": 1, "beta": 0.05, "optim": "sgd"}, optim={"lr": 0.03, "steps": 3, "save_every": 2}, eval={"data": held_out}, logged=2,
    )  # fmt: skip
    one = train(config)
    two, done = in_two_processes(config, tmp_path)
    same_steps(one, two)
    assert max(row["sampled_groups"] for row in one.read("metrics.jsonl")) > 5
    assert one.read("evaluation_before.jsonl") == two.read("evaluation_before.jsonl")
    assert len(two.read("rollouts.jsonl")) == 3 * 2 + 2 * 4
    assert {path.name for path in (tmp_path / "two" / "checkpoints" / "step-000003").iterdir()} >= {"rollouts-0.pt", "rollouts-1.pt"}
    assert done.stderr.count("train: 3 to do") == done.stdout.count("report: ") == 1, "only the first process speaks"
