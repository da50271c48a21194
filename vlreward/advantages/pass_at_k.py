"""Learn for the best of several attempts instead of for each attempt."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import torch

from vlreward.advantages.base import DEAD, Advantage, group_statistics
from vlreward.config import Count, Positive
from vlreward.registry import register
from vlreward.types import RewardTable


@register("pass_at_k")
@dataclass(kw_only=True)
class PassAtK(Advantage):
    """Mean best total of the `k`-subsets of its group that a rollout is in, minus that of all subsets, over their deviation; clipped.

    Exact over all subsets, for totals of any values. `k: 1` is GRPO with the population's deviation. A group of `k` rollouts or fewer
    gives 0, having but one subset.

    Source: Pass@k training, arXiv 2508.10751, whose closed form for right and wrong answers this is where totals are 0 and 1.

    Use it where exploration dies: among right answers nothing more is gained than by the first one in each subset, so groups that are
    mostly right hardly count. Trap: pass@1 may fall while pass@k rises; lower `k` towards the end.
    """

    k: Count
    clip: Positive = 5.0
    eps: Positive = 1e-4

    def __call__(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        total = table.total.to(torch.float64)
        advantage = torch.zeros_like(total)
        for group in group_B.unique():
            rows = ((group_B == group) & ~total.isnan()).nonzero().flatten()
            if len(rows) > self.k and total[rows].max() - total[rows].min() > DEAD:
                gain, deviation = best_of(total[rows], self.k)
                advantage[rows] = gain / (deviation + self.eps) if deviation > DEAD else 0.0
        return advantage.clamp(-self.clip, self.clip)


def best_of(value_N: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Over all k-subsets of N values: the mean maximum of those with each value, less that of all; and the maximum's deviation.

    [N] and a scalar, float64; N is more than k.
    """
    order = value_N.argsort()
    value, count = value_N[order], len(value_N)
    largest = torch.tensor([comb(i, k - 1) for i in range(count)], dtype=torch.float64) / comb(count, k)
    mean = (largest * value).sum()
    deviation = (largest * (value - mean) ** 2).sum().sqrt()
    above = torch.tensor([comb(i - 1, k - 2) if k > 1 and i else 0 for i in range(count)], dtype=torch.float64)
    others = (above * value).flip(0).cumsum(0).flip(0) - above * value
    itself = torch.tensor([comb(i, k - 1) for i in range(count)], dtype=torch.float64) * value
    gain = torch.empty_like(value)
    gain[order] = (itself + others) / comb(count - 1, k - 1) - mean
    return gain, deviation


@register("best_only")
@dataclass(kw_only=True)
class BestOnly(Advantage):
    """(Best total - second best) / group deviation for the best rollout of its group, 0 for the others; clipped.

    Source: arXiv 2503.19595; `grpo_passk` of EasyR1 and verl. Two rollouts that share the first place get 0.

    Use it where one good answer of many is enough. Trap: wrong answers are never pushed away, so little is learned from most rollouts.
    """

    clip: Positive = 5.0
    eps: Positive = 1e-6

    def __call__(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        total = table.total.to(torch.float64)
        _, deviation, spread = group_statistics(total, group_B)
        advantage = torch.zeros_like(total)
        for group in group_B.unique():
            rows = ((group_B == group) & ~total.isnan()).nonzero().flatten()
            if len(rows) > 1 and spread[rows[0]] > DEAD:
                best, second = total[rows].topk(2).values
                row = rows[total[rows].argmax()]
                advantage[row] = (best - second) / (deviation[row] + self.eps) if best - second > DEAD else 0.0
        return advantage.clamp(-self.clip, self.clip)
