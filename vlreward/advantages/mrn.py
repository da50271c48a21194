"""Each reward normalised within its group before they are added up, so that no term drowns the others by its scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlreward.advantages.base import DEAD, Advantage, group_statistics
from vlreward.config import Positive
from vlreward.registry import register
from vlreward.types import RewardTable


@register("mrn")
@dataclass(kw_only=True)
class PerReward(Advantage):
    """Weighted sum of each term's (score - group mean) / deviation, clipped; a term that is constant in a group counts 0 there.

    A term that does not apply to a row is left out of the row's sum.

    Source: multi-reward normalisation of ReFine-RFT (The Cost of Thinking); GDPO, arXiv 2601.05242, without its last step.
    """

    clip: Positive = 5.0
    eps: Positive = 1e-4

    def __call__(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        return self.summed(table, group_B).clamp(-self.clip, self.clip)

    def summed(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        """[B] before clipping; exactly 0 where the total is NaN or every term is constant in its group."""
        return sum(self.parts(table, group_B), torch.zeros(len(group_B), dtype=torch.float64))

    def parts(self, table: RewardTable, group_B: torch.Tensor) -> list[torch.Tensor]:
        """[B] for each term, its weight in it: what the sum is made of."""
        unusable = table.total.isnan()
        found = []
        for column, weight in zip(table.scores.to(torch.float64).T, table.weights.tolist(), strict=True):
            score = column.masked_fill(unusable, float("nan"))
            mean, deviation, spread = group_statistics(score, group_B)
            normal = (score - mean) / (deviation + self.eps)
            found.append(weight * torch.where(spread > DEAD, normal, 0.0).nan_to_num())
        return found
