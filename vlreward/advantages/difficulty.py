"""Hard samples count more: by how rarely they are solved, or by a number that the data gives."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlreward.advantages.adjusted import Adjusted
from vlreward.advantages.base import column, group_sum
from vlreward.config import NotNegative
from vlreward.registry import register
from vlreward.types import RewardTable


@register("difficulty")
@dataclass(kw_only=True)
class DifficultyWeighted(Adjusted):
    """`of` times 1 + `amount` * (1 - solve rate), over the mean of these weights in the batch: hard samples count more.

    The solve rate is the group's share of totals of at least `right_at`. With `label`, the name of a term that holds each sample's
    class as a number, such as `{kind: sample_number, key: label, weight: 0}`, it is that of all the batch's rows of this class.
    Both levels at once: one `difficulty` in another's `of`.

    Source: the scaling by difficulty of VULPO (arXiv 2511.11896), at the level of samples and of labels; the formula is ours, linear
    and with mean 1, so that the learning rate keeps its meaning.

    Use it where easy samples are many. Trap: a weight on the *reward* does nothing under a normalisation by the group's deviation,
    which divides it out again; this one comes after it. Noise is weighted, too: groups solved once in a while by luck count most.
    """

    amount: NotNegative = 1.0
    right_at: float = 1.0
    label: str | None = None

    def factor(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        total = table.total.to(torch.float64)
        usable, among = ~total.isnan(), group_B
        if self.label is not None:
            label = column(table, self.label, "label")
            usable &= ~label.isnan()
            among = torch.unique(label.nan_to_num(), return_inverse=True)[1]
        solved = group_sum(usable & (total >= self.right_at), among) / group_sum(usable, among).clamp(min=1)
        weight = 1 + self.amount * (1 - solved)
        return torch.where(usable, weight / weight[usable].mean() if usable.any() else weight, 1.0)


@register("weighted")
@dataclass(kw_only=True)
class Weighted(Adjusted):
    """`of` times the number that the term `by` holds, which is at least 0; a row without one counts once.

    Source: GUI-G1 (arXiv 2505.15810), whose released code multiplies each sample's loss by a number of the data, large for targets
    that are small in their picture; RewardMap (arXiv 2510.02240), 1, 1.2 or 1.5 by the map's difficulty and 0.5 more for a transfer.

    Use it with weights known beforehand: `{kind: sample_number, key: rate, weight: 0}`. Trap: RewardMap multiplies the reward, which
    GRPO's division by the group's deviation undoes; this multiplies the advantage.
    """

    by: str = "sample_number"

    def factor(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        return column(table, self.by, "by").nan_to_num(nan=1.0).clamp(min=0)
