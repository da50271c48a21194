"""Advantages made of another one: each row's is multiplied by a factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from vlreward.advantages.base import Advantage, Offsets
from vlreward.advantages.group import GroupAdvantage
from vlreward.types import RewardTable


@dataclass(kw_only=True)
class Adjusted(Advantage):
    """Base of advantages that weigh or drop the rows of another one, `of`, after it has compared them."""

    of: Advantage = field(default_factory=GroupAdvantage)

    def __call__(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        return self.factor(table, group_B) * self.of(table, group_B)

    @property
    def per_token(self) -> bool:
        return self.of.per_token

    def tokens(self, table: RewardTable, group_B: torch.Tensor, offsets: Sequence[Offsets]) -> torch.Tensor | None:
        advantage_BT = self.of.tokens(table, group_B, offsets)
        return None if advantage_BT is None else self.factor(table, group_B)[:, None] * advantage_BT

    def factor(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        """[B] float64, finite and at least 0."""
        raise NotImplementedError(f"{type(self).__name__} must define factor")
