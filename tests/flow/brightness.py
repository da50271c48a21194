"""A reward that random pictures differ in, for runs of a random generator."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vlreward.rewards.base import Reward
from vlreward.types import RewardOutput, Rollout


@dataclass(kw_only=True)
class Brightness(Reward):
    """Mean of all pixels. In [0, 1]."""

    break_above: float = 2.0
    """Judging breaks on brighter pictures."""
    needs = ("visual",)

    def one(self, rollout: Rollout) -> float:
        assert rollout.visual is not None
        value = rollout.visual.tensor.mean().item()
        if value > self.break_above:
            raise RuntimeError("too bright")
        return value


@dataclass(kw_only=True)
class SmoothBrightness(Reward):
    """Mean of all pixels, with its gradient. In [0, 1]."""

    needs = ("visual",)
    differentiable = True
    lost: bool = False
    """Judge nothing."""

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        if self.lost:
            raise RuntimeError("the judge is gone")
        return RewardOutput(scores=torch.stack([rollout.visual.tensor.mean() for rollout in rollouts if rollout.visual]).double())
