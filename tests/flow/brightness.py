"""A reward that random pictures differ in, for runs of a random generator."""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event
from typing import Literal

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


@dataclass(kw_only=True)
class Darkness(Reward):
    """What brightness lacks. In [0, 1]."""

    needs = ("visual",)

    def one(self, rollout: Rollout) -> float:
        assert rollout.visual is not None
        return 1 - rollout.visual.tensor.mean().item()


LET_GO = Event()
"""Ends the waiting of every judge that hangs."""


@dataclass(kw_only=True)
class Failing(SmoothBrightness):
    """Smooth brightness that fails in another way in each epoch but those named '': no reward, an exception, or no answer."""

    epochs: tuple[Literal["", "nan", "exception", "hang"], ...]
    groups: int
    """An epoch has."""

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        output = super().batch(rollouts)
        how = self.epochs[rollouts[0].group // self.groups]
        if how == "nan":
            output.scores = output.scores * float("nan")
        elif how == "exception":
            raise ValueError("the judge is gone")
        elif how == "hang":
            LET_GO.wait(30)
        return output


@dataclass(kw_only=True)
class HangsOnce(SmoothBrightness):
    """Smooth brightness; the second batch ever hangs."""

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        self.memory["batches"] = self.memory.get("batches", 0) + 1
        if self.memory["batches"] == 2:
            LET_GO.wait(30)
        return super().batch(rollouts)
