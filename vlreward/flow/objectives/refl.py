"""ReFL: the reward's gradient through the picture that one late step predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch

from vlreward.config import Bound
from vlreward.flow.collect import Batch
from vlreward.flow.math import clean
from vlreward.flow.objectives.reward_gradient import RewardGradient
from vlreward.flow.plan import seeded
from vlreward.flow.rollout import Velocity
from vlreward.registry import register


@register("refl")
@dataclass(kw_only=True)
class Refl(RewardGradient):
    """-reward(decode(x0)) of the x0 that is predicted at one late step, drawn anew each epoch; the steps after it are not run.

    Costs one forward and backward pass whatever the step. Early predictions are blurred averages that a reward model was never shown,
    hence `latest_share`, the part of the steps, from the end, that the step is drawn from.
    Known failure: as of DRaFT; and what pleases as a blurred prediction need not please when drawn to its end.
    Source: arXiv 2304.05977 (ImageReward), steps 30 to 40 of 40; its hinge on the reward and its pre-training loss are left out.
    """

    latest_share: Annotated[float, Bound(0, 1, above=True)] = 0.25

    def restart(self, steps: int, epoch: int, seed: int) -> int:
        count = max(1, int(self.latest_share * steps))
        return steps - 1 - int(torch.randint(count, (1,), generator=seeded(seed, "refl", epoch)))

    def ends(self, velocity: Velocity, batch: Batch) -> torch.Tensor:
        return clean(batch.x, velocity(batch.x, batch.s), batch.s)
