"""The group-relative advantage with bounds on its scale and on itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlreward.advantages.base import DEAD, Advantage, group_statistics
from vlreward.config import Positive
from vlreward.registry import register
from vlreward.types import RewardTable


@register("clipped_scaling")
@dataclass(kw_only=True)
class ClippedScaling(Advantage):
    """(Total - group mean) times the smaller of 1 / deviation and `max_scale`, clipped; groups with equal totals give exactly 0.

    So a group whose totals hardly differ is not blown up to the size of one with right and wrong answers. A `max_scale` of 4 leaves
    groups of zeros and ones alone up to 16 rollouts.

    Source: the clipped advantage scaling of RTrack (RT-RMOT, arXiv 2602.22033), there with a sequence-level ratio: `trl:
    {importance_sampling_level: sequence}`. Only the mechanism is public to us; the two bounds and their values are our reading.

    Use it with dense rewards such as IoU. Trap: `max_scale` is in units of 1 / reward, so it depends on the rewards' weights.
    """

    max_scale: Positive = 4.0
    clip: Positive = 3.0

    def __call__(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        total = table.total.to(torch.float64)
        mean, deviation, spread = group_statistics(total, group_B)
        scale = 1 / deviation.clamp(min=1 / self.max_scale)
        advantage = ((total.nan_to_num() - mean) * scale).clamp(-self.clip, self.clip)
        return torch.where(~total.isnan() & (spread > DEAD), advantage, 0.0)
