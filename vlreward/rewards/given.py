"""What the data itself says of a sample, as a column for the advantages."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.base import Reward
from vlreward.types import Rollout


@register("sample_number")
@dataclass(kw_only=True)
class SampleNumber(Reward):
    """The number that stands in the sample's target under `key`: a weight, a level of difficulty, a class. In (-inf, inf).

    A text that reads as a number counts as one, since tables of samples hold nothing else. Give it weight 0: it says nothing of the
    attempt, and serves the advantages `weighted` and `difficulty`.

    Source: the `rate` column of GUI-G1's data (arXiv 2505.15810) and the difficulty of RewardMap's maps (arXiv 2510.02240).

    Known cheats: none, since no attempt changes it; with a weight above 0 it only shifts a group, which its comparison takes out.

    Example: {keys: {key: rate}, text: "anything", target: {rate: 1.5}} -> 1.5
    """

    key: str
    bounds = (-math.inf, math.inf)

    def __post_init__(self):
        self.needs = (f"target.{self.key}",)  # type: ignore[misc]

    def one(self, rollout: Rollout) -> float:
        found = rollout.sample.target[self.key]
        try:
            number = math.nan if isinstance(found, bool) else float(found)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise DataError(f"target.{self.key} is {found!r}, expected a number")
        return number
