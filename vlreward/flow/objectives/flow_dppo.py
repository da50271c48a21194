"""Flow-DPPO: the policy gradient within a trust region that is measured, not guessed from the ratio."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from vlreward.config import Positive
from vlreward.flow.collect import Batch
from vlreward.flow.kernels.base import Step
from vlreward.flow.objectives.policy_gradient import PolicyGradient
from vlreward.flow.plan import Plan
from vlreward.flow.sampler import Sampler
from vlreward.registry import register


@register("flow_dppo")
@dataclass(kw_only=True)
class FlowDppo(PolicyGradient):
    """mean -A ratio, a term a transition, left out where the step has moved too far and would move farther.

    Too far: the KL between the step now and as it was sampled, |mean - mean_old|^2 / (2 std^2) as the mean over dimensions, is above
    `threshold`. Farther: the advantage is positive and the ratio above 1, or negative and below 1. Terms that lead back always count.
    Known failure: that of Flow-GRPO; the region is around the last epoch's weights, and only `beta` ties them to the base.
    Source: arXiv 2606.11025 (Flow-DPPO), threshold 1e-5.
    """

    threshold: Positive = 1e-5

    def plan(self, sampler: Sampler, grid: torch.Tensor, epoch: int, seed: int) -> Plan:
        return replace(super().plan(sampler, grid, epoch, seed), means=True)

    def surrogate(self, ratio: torch.Tensor, step: Step, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        assert batch.mean is not None, "the plan keeps means"
        moved = ((step.mean.detach() - batch.mean) ** 2 / (2 * step.std**2)).flatten(1).mean(1)
        farther = ((batch.advantage > 0) & (ratio > 1)) | ((batch.advantage < 0) & (ratio < 1))
        held = (moved > self.threshold) & farther
        return torch.where(held, 0.0, -batch.advantage * ratio), held
