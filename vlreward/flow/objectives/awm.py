"""AWM: the policy gradient with the flow-matching loss in place of a log-probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from vlreward.config import Fraction, NotNegative, Positive
from vlreward.flow.collect import Batch
from vlreward.flow.objectives.forward import Forward, error
from vlreward.flow.objectives.policy_gradient import clipped
from vlreward.flow.policies import Policies
from vlreward.flow.rollout import Velocity
from vlreward.registry import register

Weighting = Literal["uniform", "t", "t2", "huber"]


@register("awm")
@dataclass(kw_only=True)
class Awm(Forward):
    """mean max(-A ratio, -A clip(ratio, 1 - clip, 1 + clip)), a term a renoised rollout, with ratio = exp(w_old - w).

    w weighs the flow-matching error l = |v - (eps - x0)|^2 at the level s: l, s l, s^2 l, or the generalised Huber form
    s ((l + 1e-10)^power - 1e-10^power) / power. The old weights are those that sampled, on the same level and noise, so that the ratio is
    exactly 1 until an epoch's first update. With equal advantages this is plain fine-tuning on the rollouts.
    Known failure: the error bounds a likelihood only on average over levels; few levels a rollout and a large rate make it wander, which
    `slow_beta` damps: |v - v_slow|^2 to weights that follow the live ones after each epoch.
    Source: arXiv 2509.25050 (Advantage Weighted Matching) and its code, where clip is 1 and slow_beta 1 with a decay of 0.3.
    """

    clip: Positive = 1.0
    weighting: Weighting = "huber"
    power: Fraction = 0.25
    """Of `huber`."""
    slow_beta: NotNegative = 0.0
    slow_decay: Fraction = 0.3

    @property
    def policies(self) -> frozenset[str]:
        return super().policies | {"old"} | ({"slow"} if self.slow_beta else set())

    def matching(self, v: torch.Tensor, velocity: Velocity, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        now, old = (self.weighed(error(u, batch), batch.s) for u in (v, velocity(batch.x, batch.s, "old")))
        ratio = (old - now).exp()
        value, held = clipped(ratio, batch.advantage, self.clip)
        policy = (batch.weight * value).mean()
        metrics = {"ratio/deviation": (ratio - 1).abs().max().item(), "clip_fraction": held.float().mean().item()}
        if not self.slow_beta:
            return policy, metrics
        drift = (v - velocity(batch.x, batch.s, "slow")).square().mean()
        return policy + self.slow_beta * drift, metrics | {"loss/drift": drift.item()}

    def weighed(self, value: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """[B] the weighted error, from errors [B] at levels s [B]."""
        if self.weighting == "huber":
            return s * ((value + 1e-10) ** self.power - 1e-10**self.power) / self.power
        return value * {"uniform": torch.ones_like(s), "t": s, "t2": s**2}[self.weighting]

    def after_epoch(self, policies: Policies, epoch: int) -> None:
        policies.update("old")
        if self.slow_beta:
            policies.update("slow", self.slow_decay)
