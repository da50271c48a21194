"""Right and wrong rollouts normalised apart, so that a length penalty never turns a right answer into a bad example."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlreward.advantages.base import Advantage, column
from vlreward.config import Count, Positive
from vlreward.registry import register
from vlreward.types import RewardTable


@register("drpo")
@dataclass(kw_only=True)
class Decoupled(Advantage):
    """Right rollouts share +G/2 by their length, exp(-length / (`max` * `temper`)); wrong ones share -G/2 equally; 0 without both.

    Right is a total of at least `right_at`. G counts the group's rollouts that could be judged, so with all lengths equal and as many
    right as wrong ones each gets plus or minus 1. `length` names the term that holds the length, `{kind: text_length, weight: 0}`.

    Source: DRPO, arXiv 2510.04474, with its lambda 0.1 as `temper`. Its discriminative loss weighs wrong rollouts by how likely the
    policy holds them; this is its limit of a high temperature tau, which needs no log-probabilities (its own tau is 10).
    """

    max: Count
    """The longest text that can be generated."""
    right_at: float = 1.0
    temper: Positive = 0.1
    length: str = "text_length"
    clip: Positive = 5.0

    def __call__(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        total, length = table.total.to(torch.float64), column(table, self.length, "length")
        usable = ~total.isnan() & ~length.isnan()
        right, wrong = usable & (total >= self.right_at), usable & (total < self.right_at)
        advantage = torch.zeros(len(total), dtype=torch.float64)
        for group in group_B.unique():
            rights, wrongs = (right & (group_B == group), wrong & (group_B == group))
            half = (rights | wrongs).sum().item() / 2
            if rights.any() and wrongs.any():
                advantage[rights] = half * torch.softmax(-length[rights] / (self.max * self.temper), 0)
                advantage[wrongs] = -half / wrongs.sum()
        return advantage.clamp(-self.clip, self.clip)
