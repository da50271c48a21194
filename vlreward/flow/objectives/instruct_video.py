"""InstructVideo: given clips are edited by the last part of the denoising, and the reward's gradient goes through its last step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch

from vlreward.config import Bound
from vlreward.flow.collect import Batch
from vlreward.flow.math import clean
from vlreward.flow.objectives.reward_gradient import RewardGradient
from vlreward.flow.plan import Plan
from vlreward.flow.rollout import Velocity
from vlreward.flow.sampler import Sampler
from vlreward.registry import register


@register("instruct_video")
@dataclass(kw_only=True)
class InstructVideo(RewardGradient):
    """-reward(decode(x0)) of a clip of the data that was noised to the level before the last `part` of the steps and denoised from there.

    Saves the steps before, and keeps to motions that real clips have. Gradient flows through the last step alone. `part: 1` starts
    from noise and is DRaFT-1. Give it `segmental_frames` around a differentiable reward of pictures, and clips: `group.pictures: given`.
    Known failure: a small `part` leaves little to change but texture.
    Source: arXiv 2312.12490 (InstructVideo): 20 steps, part 0.6, segmental and temporally attenuated HPSv2, learning rate 1e-5.
    """

    offline: ClassVar[bool] = True
    part: Annotated[float, Bound(0, 1, above=True)] = 0.6

    def restart(self, steps: int, epoch: int, seed: int) -> int:
        return steps - 1

    def plan(self, sampler: Sampler, grid: torch.Tensor, epoch: int, seed: int) -> Plan:
        plan = super().plan(sampler, grid, epoch, seed)
        return replace(plan, begin=plan.steps - max(1, round(self.part * plan.steps)))

    def ends(self, velocity: Velocity, batch: Batch) -> torch.Tensor:
        return clean(batch.x, velocity(batch.x, batch.s), batch.s)
