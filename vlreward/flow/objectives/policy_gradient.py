"""What all policy gradients over stochastic denoising steps share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from vlreward.config import NotNegative
from vlreward.flow.collect import Batch
from vlreward.flow.kernels.base import Step, kl
from vlreward.flow.objectives.base import Objective
from vlreward.flow.plan import Plan
from vlreward.flow.rollout import Velocity
from vlreward.types import Loss


@dataclass(kw_only=True)
class PolicyGradient(Objective):
    """mean weight * surrogate + beta KL(train || base), a term a transition; a method says what its surrogate is.

    The KL has a closed form, since both steps are Gaussians of the same width.
    """

    beta: NotNegative = 0.0
    """Weight of the KL to the model before training; 0 saves a forward pass."""
    kl_units: Literal["true", "flow_grpo"] = "true"
    """`flow_grpo`: the KL times the step's length, as in that code; its published beta 0.04 is meant so."""

    @property
    def policies(self) -> frozenset[str]:
        return frozenset({"base"} if self.beta else ())

    def log_ratio(self, step: Step, batch: Batch) -> torch.Tensor:
        """[B] log of the policy ratio; 0 at the weights that sampled."""
        return step.log_prob(batch.x_next) - batch.log_prob

    def surrogate(self, ratio: torch.Tensor, step: Step, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """[B] to minimise, and [B] bool: the rows that are held back, whose part has no gradient."""
        raise NotImplementedError(f"{type(self).__name__} must define surrogate")

    def loss(self, velocity: Velocity, batch: Batch) -> Loss:
        x, s, s_next = batch.x, batch.s, batch.s_next
        step = batch.kernel(x, velocity(x, s), s, s_next)
        ratio = self.log_ratio(step, batch).exp()
        value, held = self.surrogate(ratio, step, batch)
        policy = (batch.weight * value).mean()
        metrics = {
            "loss/policy": policy.item(),
            "ratio/mean": ratio.mean().item(),
            "ratio/deviation": (ratio - 1).abs().max().item(),
            "clip_fraction": held.float().mean().item(),
        }
        if not self.beta:
            return Loss(value=policy, metrics=metrics)
        base = batch.kernel(x, velocity(x, s, "base"), s, s_next)
        divergence = kl(step, base, s, s_next, self.kl_units).mean()
        return Loss(value=policy + self.beta * divergence, metrics=metrics | {"loss/kl": divergence.item()})


def clipped(ratio: torch.Tensor, advantage: torch.Tensor, clip: float) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's surrogate max(-A ratio, -A clip(ratio, 1 - clip, 1 + clip)) [B], and where the clip holds it back."""
    value = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))
    held = ((advantage > 0) & (ratio > 1 + clip)) | ((advantage < 0) & (ratio < 1 - clip))
    return value, held


def spread_and_gain(plan: Plan, steps: range | tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """std and |d mean / d v| of the plan's kernel at each of S steps, both [S] float32."""
    index, one = torch.tensor(steps, dtype=torch.long), torch.ones(len(steps), 1)
    at = plan.sigmas[index], plan.sigmas[index + 1]
    still, moved = (plan.kernel(0 * one, v, *at) for v in (0 * one, one))
    return still.std.flatten(), (moved.mean - still.mean).abs().flatten()
