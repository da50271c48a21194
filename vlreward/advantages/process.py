"""Process rewards as a sum, or as their minimum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from vlreward.advantages.base import DEAD, Advantage, group_statistics, group_sum
from vlreward.advantages.leave_one_out import LeaveOneOut
from vlreward.advantages.stepwise import Stepwise
from vlreward.config import Positive
from vlreward.registry import register
from vlreward.types import Segment


@register("process")
@dataclass(kw_only=True)
class Process(Stepwise):
    """Each token gets its rollout's advantage plus the rewards, less a baseline, of its step and all later ones; clipped.

    `form: minimum` first weighs a rollout's step rewards r by softmax(-r / `temper`), so that their sum is nearly the worst of them;
    `sum` takes them as they are. The baseline of each step is the mean reward a step, so weighed, of the group's other rollouts.
    Outcomes go by `of`, here the leave-one-out difference.

    Source: PURE, arXiv 2504.15275 (temper 0.1), with its step baseline; step rewards there are P(good) - P(bad), in [-1, 1].

    Use it with a step judge beside an outcome reward. Traps: `sum` pays for writing more steps that the judge likes, the collapse that
    the paper shows; `minimum` still rewards writing a single safe step, so keep a reward for the outcome. The baseline is taken off at
    each step, so where it is below 0 more steps are worth more.
    """

    of: Advantage = field(default_factory=LeaveOneOut)
    form: Literal["minimum", "sum"] = "minimum"
    temper: Positive = 0.1

    @property
    def following(self) -> bool:
        return True

    def values(self, segments: Sequence[Sequence[Segment]], group_B: torch.Tensor) -> list[torch.Tensor]:
        rewards = [torch.tensor([part.reward for part in parts], dtype=torch.float64) for parts in segments]
        if self.form == "minimum":
            rewards = [shares_of_least(reward, self.temper) for reward in rewards]
        counts = [len(reward) for reward in rewards]
        judged = torch.tensor(counts) > 0
        mean_B = torch.stack([reward.mean() if len(reward) else torch.zeros((), dtype=torch.float64) for reward in rewards])
        others_B = group_sum(judged, group_B) - 1
        baseline_B = (group_sum(mean_B, group_B) - mean_B) / others_B.clamp(min=1)
        reward_N, row_N = torch.cat(rewards), torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        _, _, spread_N = group_statistics(reward_N, group_B[row_N])
        alive_N = (spread_N > DEAD) & (others_B[row_N] > 0)
        return list(torch.where(alive_N, reward_N - baseline_B[row_N], 0.0).split(counts))


def shares_of_least(reward_S: torch.Tensor, temper: float) -> torch.Tensor:
    """[S] each reward times its share by softmax(-reward / temper): what they add up to is close to the least of them."""
    return torch.softmax(-reward_S / temper, 0) * reward_S
