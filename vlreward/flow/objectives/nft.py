"""DiffusionNFT: learning on the forward process from better and worse rollouts, without log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch

from vlreward.config import Bound, Count, NotNegative, Positive
from vlreward.flow.collect import Batch
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.objectives.base import Objective
from vlreward.flow.plan import Plan
from vlreward.flow.policies import Policies
from vlreward.flow.rollout import Velocity
from vlreward.flow.sampler import Sampler
from vlreward.registry import register
from vlreward.types import Loss


@register("nft")
@dataclass(kw_only=True)
class Nft(Objective):
    """r |v+ - (eps - x0)|^2 + (1 - r) |v- - (eps - x0)|^2 with v+- = v_old +- strength (v - v_old), a term a renoised rollout.

    r = (1 + advantage / clip) / 2 with the advantage cut at `clip`. Rollouts come from the weights `old` by the ODE and are noised anew
    at `levels` random levels each; both errors are measured on the predicted x0 and divided by their own detached mean, as in the
    published code. `old` follows the live weights after each epoch: old <- d old + (1 - d) live, with d = min(growth * epoch, most).

    With old equal to the live weights (d = 0, one update an epoch) both errors are equal and the reward enters through the gradient
    alone: r = 1/2 gives none, r = 1 that of ordinary flow matching on the rollout.
    Known failure: hacks a weak reward quickly, since nothing but `beta` ties it to the base.
    Source: arXiv 2509.16117 (DiffusionNFT) and github.com/NVlabs/DiffusionNFT.
    """

    needs_log_prob: ClassVar[bool] = False
    strength: Positive = 1.0
    """beta of the paper; small values are a larger step."""
    clip: Positive = 5.0
    """Advantages of this size and more are wholly good or bad."""
    levels: Count = 2
    """Noise levels at which each rollout is trained, one drawn from each equal part of [0, 1]."""
    beta: NotNegative = 0.0
    """Weight of |v - v_base|^2; the paper's is 1e-4."""
    growth: NotNegative = 0.001
    most: Annotated[float, Bound(0, 1)] = 0.5

    @property
    def policies(self) -> frozenset[str]:
        return frozenset({"old", "base"} if self.beta else {"old"})

    def plan(self, sampler: Sampler, grid: torch.Tensor, epoch: int, seed: int) -> Plan:
        """All steps by the ODE, with the weights `old`."""
        plan = sampler.plan(grid, epoch, seed)
        return replace(plan, kernel=Ode(), noisy=(), train=(), policy="old", renoised=self.levels)

    def loss(self, velocity: Velocity, batch: Batch) -> Loss:
        x, s, wanted = batch.x, batch.s, batch.straight
        live, old = velocity(x, s), velocity(x, s, "old")
        r = (batch.advantage / self.clip).clamp(-1, 1) / 2 + 0.5
        ahead = self.strength * (live - old)
        better, worse = (normalized(old + sign * ahead - wanted, s) for sign in (1, -1))
        policy = (batch.weight * (r * better + (1 - r) * worse)).mean() * self.clip / self.strength
        metrics = {"loss/policy": policy.item(), "old_distance": (live - old).detach().square().mean().item()}
        if not self.beta:
            return Loss(value=policy, metrics=metrics)
        divergence = (live - velocity(x, s, "base")).square().mean()
        return Loss(value=policy + self.beta * divergence, metrics=metrics | {"loss/kl": divergence.item()})

    def after_epoch(self, policies: Policies, epoch: int) -> None:
        policies.update("old", min(self.growth * epoch, self.most))


def normalized(error: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """[B] mean squared error of the x0 that a velocity off by `error` predicts at s, over its own detached mean absolute error."""
    off = error * s.reshape(-1, *[1] * (error.ndim - 1))
    scale = off.detach().abs().flatten(1).mean(1).clamp(min=1e-5)
    return off.square().flatten(1).mean(1) / scale
