"""The group-relative advantage of GRPO and its variants without or with batch-wide deviation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from vlreward.advantages.base import DEAD, Advantage, group_statistics
from vlreward.config import Positive
from vlreward.registry import register
from vlreward.types import RewardTable


@register("group")
@dataclass(kw_only=True)
class GroupAdvantage(Advantage):
    """(total - group mean) / deviation, clipped; groups with equal totals give exactly 0.

    Source: GRPO (arXiv 2402.03300) for `std: group`; Dr. GRPO (arXiv 2503.20783) for `none`; flow_grpo's default for `batch`
    (deviation of all rows' totals; REINFORCE++-baseline, which divides by that of the advantages, is `reinforce_pp`).
    """

    std: Literal["group", "batch", "none"] = "group"
    clip: Positive = 5.0
    eps: Positive = 1e-4

    def __call__(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        total = table.total.to(torch.float64)
        mean, deviation, spread = group_statistics(total, group_B)
        valid = ~total.isnan()
        if self.std == "batch":
            _, deviation, _ = group_statistics(total, torch.zeros_like(group_B))
        scale = torch.ones_like(mean) if self.std == "none" else deviation + self.eps
        advantage = ((total.nan_to_num() - mean) / scale).clamp(-self.clip, self.clip)
        return torch.where(valid & (spread > DEAD), advantage, 0.0)
