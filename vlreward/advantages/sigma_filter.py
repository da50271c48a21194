"""Rows whose advantage lies far out in the batch are left out."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlreward.advantages.adjusted import Adjusted
from vlreward.advantages.base import DEAD
from vlreward.config import Positive
from vlreward.registry import register
from vlreward.types import RewardTable


@register("sigma_filter")
@dataclass(kw_only=True)
class SigmaFilter(Adjusted):
    """`of` where it lies within `sigma` deviations of its mean over the batch, 0 where it does not.

    Source: StableReinforce, R1-Reward, arXiv 2505.02835, with `of: {kind: reinforce_pp, baseline: batch}`. The paper's rule is
    taken; its code compares the whitened values with the raw mean plus and minus 3.

    Use it where a rare reward makes a few rows outweigh a batch of nearly equal ones. Trap: in a batch of fewer than sigma^2 + 1 rows
    (10) none can lie further out than `sigma`, and the only right answer of a large batch is just what is left out.
    """

    sigma: Positive = 3.0

    def factor(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        advantage, usable = self.of(table, group_B), ~table.total.isnan()
        if usable.sum() < 2:
            return torch.ones_like(advantage)
        mean, deviation = advantage[usable].mean(), advantage[usable].std()
        return ((advantage - mean).abs() <= self.sigma * deviation + DEAD).to(torch.float64)
