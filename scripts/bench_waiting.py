"""Steps of `train-vlm` with a reward that waits for another machine: judged while the next answers are written, and one after the other.

python scripts/bench_waiting.py [--seconds 0.1] [--steps 6]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass

import torch

from vlreward.config import parse
from vlreward.rewards.base import Reward
from vlreward.rewards.composite import Term
from vlreward.types import RewardOutput
from vlreward.vlm.config import TrainVLM
from vlreward.vlm.train import train


@dataclass(kw_only=True)
class Remote(Reward):
    """The text's length, after a pause for each rollout, as a critic on another machine takes."""

    seconds: float
    kind = "remote"
    needs = ("text",)
    bounds = (0.0, 1e6)

    def batch(self, rollouts):
        time.sleep(self.seconds * len(rollouts))
        return RewardOutput(scores=torch.tensor([float(len(rollout.text or "")) for rollout in rollouts]))


def seconds_a_step(folder: str, seconds: float, steps: int, overlap: bool) -> tuple[float, list[float]]:
    """Median of all steps but the first, and the mean reward of each step."""
    config = parse(TrainVLM, {
        "run": {"name": f"overlap-{overlap}", "seed": 7, "folder": folder},
        "data": {"kind": "tiny", "task": "grounding", "count": 256},
        "policy": {"model": "assets/tiny-vlm", "max_new_tokens": 24},
        "group": {"size": 8, "prompts": 8, "portions": 4},
        "rewards": [{"kind": "box_iou"}],
        "optim": {"lr": 1e-5, "steps": steps},
        "trl": {"beta": 0.04},
        "device": "cpu",
    })  # fmt: skip
    Remote.waits = overlap
    config.rewards.terms = (Term(name="remote", weight=1.0, reward=Remote(seconds=seconds)),)
    rows = train(config).read("metrics.jsonl")
    spent = [row["time/rollout"] + row["time/reward"] + row["time/update"] for row in rows[1:]]
    return statistics.median(spent), [row["reward/total"] for row in rows]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=0.1, help="that a rollout takes to be judged")
    options.add_argument("--steps", type=int, default=6)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plain, first = seconds_a_step(folder, given.seconds, given.steps, overlap=False)
        ahead, second = seconds_a_step(folder, given.seconds, given.steps, overlap=True)
    assert first == second, "the same rewards, whenever they are judged"
    print(f"one after the other {plain:.2f} s a step, at the same time {ahead:.2f} s: {plain / ahead:.2f} times as fast")


if __name__ == "__main__":
    main()
