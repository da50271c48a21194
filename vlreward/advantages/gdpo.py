"""Each reward normalised within its group, and their sum over the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlreward.advantages.mrn import PerReward
from vlreward.registry import register
from vlreward.types import RewardTable


@register("gdpo")
@dataclass(kw_only=True)
class BatchPerReward(PerReward):
    """As `mrn`, then the sum is divided by its deviation over the whole batch, so that its size does not grow with the number of terms.

    Source: GDPO, arXiv 2601.05242; TRL's multi_objective_aggregation="normalize_then_sum". The batch mean is 0 already, each term
    being centred in its group; rows without a signal stay exactly 0.
    """

    def __call__(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        summed = self.summed(table, group_B)
        usable = ~table.total.isnan()
        if usable.sum() < 2:
            return torch.zeros_like(summed)
        return (summed / (summed[usable].std() + self.eps)).clamp(-self.clip, self.clip)
