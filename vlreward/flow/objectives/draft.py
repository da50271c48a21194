"""DRaFT and AlignProp: the reward's gradient through the last denoising steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch.utils.checkpoint import checkpoint

from vlreward.config import Count, Positive
from vlreward.errors import ConfigError
from vlreward.flow.collect import Batch
from vlreward.flow.objectives.reward_gradient import RewardGradient
from vlreward.flow.plan import seeded
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
    truncation: Literal["fixed", "uniform", "gaussian"] = "fixed"
    """How many of the last steps get a gradient, drawn anew each epoch: `last` of them; from 1 to `last` alike often; or a normal
    number of mean `last` and deviation `spread`, drawn until it lies within the steps. Source: AlignProp's randomised truncation, whose
    gaussian is 8 +- 5 of 50."""
    spread: Positive = 5.0
    """Of `gaussian`."""
    checkpoint: bool = False

    def restart(self, steps: int, epoch: int, seed: int) -> int:
        if self.last > steps:
            raise ConfigError(f"is {self.last}, expected at most the {steps} steps of the sampler", "objective.last")
        return steps - self.drawn(steps, seeded(seed, "truncation", epoch))

    def drawn(self, steps: int, generator: torch.Generator) -> int:
        """How many steps get a gradient."""
        if self.truncation == "uniform":
            return 1 + int(torch.randint(self.last, (1,), generator=generator))
        count = self.last
        while self.truncation == "gaussian":
            count = int(self.last + self.spread * torch.randn(1, generator=generator))
            if 1 <= count <= steps:
                break
        return count

    def ends(self, velocity: Velocity, batch: Batch) -> torch.Tensor:
        assert batch.rest is not None, "the plan restarts"
        if not self.checkpoint:
            return batch.rest(velocity)

        def again(x: torch.Tensor, s: torch.Tensor, policy: str = "train") -> torch.Tensor:
            return checkpoint(velocity, x, s, policy, use_reentrant=False)  # type: ignore[return-value]

        return batch.rest(again)
