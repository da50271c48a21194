"""GRPO-Guard: Flow-GRPO with ratios that are centred and steps that count alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from vlreward.config import Positive
from vlreward.flow.collect import Batch
from vlreward.flow.kernels.base import Step
from vlreward.flow.objectives.policy_gradient import PolicyGradient, clipped, spread_and_gain
from vlreward.flow.plan import Plan
from vlreward.flow.sampler import Sampler
from vlreward.registry import register


@register("grpo_guard")
@dataclass(kw_only=True)
class GrpoGuard(PolicyGradient):
    """Flow-GRPO's clipped loss with both corrections of GRPO-Guard: normalised ratios and balanced steps.

    The ratio is exp of std * (log ratio + |mean - mean_old|^2 / (2 std^2)), which is the mean over dimensions of
    (mean - mean_old) * z with the noise z that was drawn. A plain log ratio lies below 0 on average, the more so the less noisy the step
    is, so that the upper clip hardly ever holds; this one is centred at 0, and its scale has lost the factor 1 / std. A step's loss is
    then divided by |d mean / d v|, which makes the gradient's scale the same at every step. For Flow-GRPO's kernel that is the paper's
    1 / dt up to a constant; for `dance` and the others it is what balances them, where the paper multiplies by a further factor.
    Both are per row: no row's ratio depends on another's.
    Known failure: no KL here by default; a weak reward is still hacked, later.
    Source: arXiv 2510.22319 (GRPO-Guard), whose clips are 2e-6 to 4e-6 for SD3.5-M.
    """

    clip: Positive = 2e-6

    def plan(self, sampler: Sampler, grid: torch.Tensor, epoch: int, seed: int) -> Plan:
        return replace(super().plan(sampler, grid, epoch, seed), means=True)

    def step_weights(self, plan: Plan) -> torch.Tensor:
        """1 / |d mean / d v|"""
        _, gain_S = spread_and_gain(plan, plan.train)
        return 1 / gain_S

    def log_ratio(self, step: Step, batch: Batch) -> torch.Tensor:
        assert batch.mean is not None, "the plan keeps means"
        return moved_along(step, batch.x_next, batch.mean)

    def followed(self, step: Step, x_next: torch.Tensor) -> torch.Tensor:
        return moved_along(step, x_next, step.mean.detach())

    def surrogate(self, ratio: torch.Tensor, step: Step, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return clipped(ratio, batch.advantage, self.clip)


def moved_along(step: Step, x_next: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """[B] how far a step's mean has moved from `mean` along the noise by which x_next was drawn, mean over dimensions."""
    return ((step.mean - mean) * ((x_next - mean) / step.std)).flatten(1).mean(1)
