"""Baselines without a group's deviation: the other rollouts' mean, or a mean with one deviation for the whole batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from vlreward.advantages.base import DEAD, Advantage, group_statistics, group_sum
from vlreward.config import Positive
from vlreward.registry import register
from vlreward.types import RewardTable


@register("leave_one_out")
@dataclass(kw_only=True)
class LeaveOneOut(Advantage):
    """Total minus the mean total of the group's other rollouts, clipped; a rollout alone in its group gets 0.

    Equal to (total - group mean) * n / (n - 1). Source: RLOO, arXiv 2402.14740; its baseline does not contain the row itself, so it
    is unbiased, and nothing is divided by a deviation.

    Use it where rewards have one scale throughout. Trap: groups with widely spread rewards count more, by design.
    """

    clip: Positive = 5.0

    def __call__(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        total = table.total.to(torch.float64)
        usable = ~total.isnan()
        mean, _, spread = group_statistics(total, group_B)
        count = group_sum(usable, group_B)
        advantage = ((total.nan_to_num() - mean) * count / (count - 1).clamp(min=1)).clamp(-self.clip, self.clip)
        return torch.where(usable & (spread > DEAD), advantage, 0.0)


@register("reinforce_pp")
@dataclass(kw_only=True)
class ReinforcePlusPlus(Advantage):
    """(Total - mean) / deviation of these differences over the whole batch, clipped; the mean is the group's or the batch's.

    Source: REINFORCE++, arXiv 2501.03262: `baseline: batch` is the method itself, `group` its variant with a group baseline. It
    differs from `{kind: group, std: batch}` in the deviation, which there is that of the totals.

    Use `group` for several rollouts a prompt, `batch` for one. Trap: with `batch` a group whose rollouts are all alike does not get 0:
    its prompt is compared with the others, so easy prompts are reinforced whatever is answered.
    """

    baseline: Literal["group", "batch"] = "group"
    clip: Positive = 5.0
    eps: Positive = 1e-4

    def __call__(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        total = table.total.to(torch.float64)
        among = group_B if self.baseline == "group" else torch.zeros_like(group_B)
        mean, _, spread = group_statistics(total, among)
        centred = (total - mean).where(spread > DEAD, total * 0)
        _, deviation, _ = group_statistics(centred, torch.zeros_like(group_B))
        return (centred.nan_to_num() / (deviation + self.eps)).clamp(-self.clip, self.clip)
