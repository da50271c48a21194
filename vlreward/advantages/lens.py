"""Groups without a right answer teach, too: the surer the policy was of a wrong one, the more it is pushed away from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlreward.advantages.base import DEAD, Advantage, column
from vlreward.config import NotNegative, Positive
from vlreward.registry import register
from vlreward.types import RewardTable

LEAST = 1e-12
"""A likelihood below this counts as this, so that a text of many unlikely tokens does not divide by 0."""


@register("lens")
@dataclass(kw_only=True)
class ConfidenceWeighted(Advantage):
    """GRPO on 1 for a right rollout and -p / (D - p) / G for a wrong one of likelihood p; groups without a right one count `alpha`.

    p is the geometric mean of a rollout's token probabilities, which the term `likelihood` holds: `{kind: text_likelihood, weight: 0}`.
    D is twice the group's largest p, or 1 / mean(right / p) where that is more, so a wrong rollout is worth -1/G to 0 and right ones stay
    ahead. Groups with a right rollout are divided by their deviation, those without are only centred. Right is a total of at least
    `right_at`. Groups that are all right, or all wrong with one likelihood, get exactly 0.

    Source: LENS, arXiv 2510.08696, equations 10 and 14 and section 5.1, alpha 0.25.

    Use it on hard data, where most groups are all wrong. Trap: among wrong rollouts the unlikely ones are reinforced relative to the
    likely ones, so keep `alpha` small, and the deviation of likelihoods must come from the policy's uncertainty, not from truncation.
    """

    alpha: NotNegative = 0.25
    right_at: float = 1.0
    likelihood: str = "text_likelihood"
    clip: Positive = 5.0
    eps: Positive = 1e-4

    def __call__(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        total, likelihood = table.total.to(torch.float64), column(table, self.likelihood, "likelihood")
        usable = ~total.isnan() & ~likelihood.isnan()
        advantage = torch.zeros_like(total)
        for group in group_B.unique():
            rows = (usable & (group_B == group)).nonzero().flatten()
            if len(rows) > 1:
                advantage[rows] = self.compared(total[rows] >= self.right_at, likelihood[rows].clamp(min=LEAST))
        return advantage.clamp(-self.clip, self.clip)

    def compared(self, right_G: torch.Tensor, likelihood_G: torch.Tensor) -> torch.Tensor:
        """[G] advantages of one group, before clipping."""
        reward = calibrated(right_G, likelihood_G)
        if reward.max() - reward.min() <= DEAD:
            return torch.zeros_like(reward)
        centred = reward - reward.mean()
        return centred / (reward.std() + self.eps) if right_G.any() else self.alpha * centred


def calibrated(right_G: torch.Tensor, likelihood_G: torch.Tensor) -> torch.Tensor:
    """[G] float64: 1 for a right rollout; for a wrong one between -1/G and 0, the lower the likelier it was."""
    difficulty = 2 * likelihood_G.max()
    if right_G.any():
        difficulty = torch.maximum(difficulty, 1 / (right_G / likelihood_G).mean())
    penalty = likelihood_G / (difficulty - likelihood_G) / len(likelihood_G)
    return torch.where(right_G, 1.0, -penalty)
