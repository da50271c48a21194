"""Which groups of a batch are worth learning from."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlreward.advantages.base import DEAD, group_statistics
from vlreward.config import Count, Fraction
from vlreward.errors import ConfigError
from vlreward.types import RewardTable


@dataclass(frozen=True, kw_only=True)
class DynamicSampling:
    """The `sampling:` block: prompts whose group teaches nothing are replaced by fresh ones before a step learns.

    A group is informative if its totals differ, and, where `solved` is given, if their mean lies strictly between its two ends.

    Source: DAPO, arXiv 2503.14476 (accuracy neither 0 nor 1); `solved: [0.01, 0.99]` is the filter of EasyR1. The difference of totals
    is asked for instead of their deviation, since float noise gives equal totals a deviation above 0.
    """

    rounds: Count = 3
    """Times that a step samples at most; after the last one it learns from what it has."""
    solved: tuple[Fraction, Fraction] | None = None

    def __post_init__(self):
        if self.solved and self.solved[0] >= self.solved[1]:
            raise ConfigError(f"is {list(self.solved)}, expected the lower end first", "solved")

    def informative(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        """[B] bool, equal for all rows of a group; rows that are broken or inapplicable take no part in the decision."""
        mean, _, spread = group_statistics(table.total, group_B)
        kept = spread > DEAD
        return kept & (mean > self.solved[0]) & (mean < self.solved[1]) if self.solved else kept
