"""A reward that random pictures differ in, for runs of a random generator."""

from dataclasses import dataclass

from vlreward.rewards.base import Reward
from vlreward.types import Rollout


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
