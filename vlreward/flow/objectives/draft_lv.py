"""DRaFT-LV: the last denoising step's gradient, averaged over several ways to come to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlreward.config import Count
from vlreward.flow.collect import Batch
from vlreward.flow.math import clean, interpolate
from vlreward.flow.objectives.reward_gradient import RewardGradient
from vlreward.flow.rollout import Velocity
from vlreward.registry import register
from vlreward.types import Loss


@register("draft_lv")
@dataclass(kw_only=True)
class DraftLv(RewardGradient):
    """Minus the mean reward after the last step, taken from where the rollout was before it and from `copies` of its end that are
    noised anew to that level.

    One rollout then gives 1 + `copies` gradients of DRaFT-1, each for one pass of the network and one judgement: less variance for the
    price of a fraction of a rollout. Copies carry no gradient to the steps before.
    Known failure: as of DRaFT, with the last step alone: what is where was decided long before it.
    Source: DRaFT-LV of arXiv 2309.17400, with 2 copies.
    """

    copies: Count = 2

    def restart(self, steps: int, epoch: int, seed: int) -> int:
        return steps - 1

    def loss(self, velocity: Velocity, batch: Batch) -> Loss:
        assert batch.fresh is not None, "the plan restarts"
        starts = [batch.x, *(interpolate(batch.x_next, batch.fresh(number), batch.s) for number in range(self.copies))]
        parts = [self.minus_reward(clean(x, velocity(x, batch.s), batch.s), batch) for x in starts]
        value = torch.stack(parts).mean()
        return Loss(value=value, metrics={"loss/policy": value.item()})
