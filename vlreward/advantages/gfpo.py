"""Learn from the part of a group that has what one wants more of, such as brevity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch

from vlreward.advantages.base import DEAD, Advantage, column, group_statistics
from vlreward.config import Bound, Positive
from vlreward.registry import register
from vlreward.types import RewardTable


@register("gfpo")
@dataclass(kw_only=True)
class Filtered(Advantage):
    """(total - mean) / deviation over the `keep` best of each group by length or by reward per length, clipped; 0 for the others.

    `length` names the term that holds the length, `{kind: text_length, weight: 0}`. Among equals by that measure the higher total
    is kept. A group whose kept totals are equal gives exactly 0.

    Source: GFPO, arXiv 2508.09726.
    """

    keep: Annotated[int, Bound(2)]
    """Rollouts of a group to learn from."""
    by: Literal["shortest", "reward_per_length"] = "shortest"
    length: str = "text_length"
    clip: Positive = 5.0
    eps: Positive = 1e-4

    def __call__(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        total, length = table.total.to(torch.float64), column(table, self.length, "length")
        measure = -length if self.by == "shortest" else total / length.clamp(min=1)
        kept = torch.zeros(len(total), dtype=torch.bool)
        for group in group_B.unique():
            rows = ((group_B == group) & ~total.isnan() & ~length.isnan()).nonzero().flatten().tolist()
            rows.sort(key=lambda row: (-measure[row].item(), -total[row].item()))
            kept[rows[: self.keep]] = True
        mean, deviation, spread = group_statistics(total.masked_fill(~kept, float("nan")), group_B)
        advantage = ((total.nan_to_num() - mean) / (deviation + self.eps)).clamp(-self.clip, self.clip)
        return torch.where(kept & (spread > DEAD), advantage, 0.0)
