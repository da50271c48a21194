"""DRaFT and AlignProp: the reward's gradient through the last denoising steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

from vlreward.config import Count
from vlreward.errors import ConfigError
from vlreward.flow.collect import Batch
from vlreward.flow.objectives.reward_gradient import RewardGradient
from vlreward.flow.rollout import Velocity
from vlreward.registry import register


@register("draft")
@dataclass(kw_only=True)
class Draft(RewardGradient):
    """-reward(decode(x0)), with a gradient through the last `last` steps of the ODE, both through velocities and through latents.

    Steps before them get none. `last: 1` is DRaFT-1; all steps are AlignProp without truncation. `checkpoint` computes each velocity
    again on the way back, so that memory does not grow with `last`.
    Known failure: follows a reward model into pictures only that model likes, and fast; keep `last` and the run short, and watch a
    reward of weight 0 that is not trained on.
    Source: arXiv 2309.17400 (DRaFT), arXiv 2310.03739 (AlignProp) and github.com/mihirp1998/AlignProp.
    """

    last: Count = 1
    checkpoint: bool = False

    def restart(self, steps: int, epoch: int, seed: int) -> int:
        if self.last > steps:
            raise ConfigError(f"is {self.last}, expected at most the {steps} steps of the sampler", "objective.last")
        return steps - self.last

    def ends(self, velocity: Velocity, batch: Batch) -> torch.Tensor:
        assert batch.rest is not None, "the plan restarts"
        if not self.checkpoint:
            return batch.rest(velocity)

        def again(x: torch.Tensor, s: torch.Tensor, policy: str = "train") -> torch.Tensor:
            return checkpoint(velocity, x, s, policy, use_reentrant=False)  # type: ignore[return-value]

        return batch.rest(again)
