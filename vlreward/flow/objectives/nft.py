"""DiffusionNFT: learning on the forward process from better and worse rollouts, without log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch

from vlreward.config import Bound, NotNegative, Positive
from vlreward.flow.collect import Batch
from vlreward.flow.objectives.forward import Forward
from vlreward.flow.plan import Plan
from vlreward.flow.policies import Policies
from vlreward.flow.rollout import Velocity
from vlreward.flow.sampler import Sampler
from vlreward.registry import register


@register("nft")
@dataclass(kw_only=True)
class Nft(Forward):
    """r |v+ - (eps - x0)|^2 + (1 - r) |v- - (eps - x0)|^2 with v+- = v_old +- strength (v - v_old), a term a renoised rollout.

    r = (1 + advantage / clip) / 2 with the advantage cut at `clip`. Rollouts come from the weights `old` by the ODE and are noised anew
    at `levels` random levels each; both errors are measured on the predicted x0 and divided by their own detached mean, as in the
    published code. `old` follows the live weights after each epoch: old <- d old + (1 - d) live, with d = min(growth * epoch, most).

    With old equal to the live weights (d = 0, one update an epoch) both errors are equal and the reward enters through the gradient
    alone: r = 1/2 gives none, r = 1 that of ordinary flow matching on the rollout.
    Known failure: hacks a weak reward quickly, since nothing but `beta` (the paper's is 1e-4) ties it to the base.
    Source: arXiv 2509.16117 (DiffusionNFT) and github.com/NVlabs/DiffusionNFT.
    """

    strength: Positive = 1.0
    """beta of the paper; small values are a larger step."""
    clip: Positive = 5.0
    """Advantages of this size and more are wholly good or bad."""
    growth: NotNegative = 0.001
    most: Annotated[float, Bound(0, 1)] = 0.5
    wait: Annotated[int, Bound(0)] = 0
    """Epochs before d begins to grow; the code's second schedule waits 75, grows by 0.0075 and ends at 0.999."""

    @property
    def policies(self) -> frozenset[str]:
        return super().policies | {"old"}

    def plan(self, sampler: Sampler, grid: torch.Tensor, epoch: int, seed: int) -> Plan:
        """All steps by the ODE, with the weights `old`."""
        return replace(super().plan(sampler, grid, epoch, seed), policy="old")

    def matching(self, v: torch.Tensor, velocity: Velocity, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        s, wanted, old = batch.s, batch.straight, velocity(batch.x, batch.s, "old")
        r = (batch.advantage / self.clip).clamp(-1, 1) / 2 + 0.5
        ahead = self.strength * (v - old)
        better, worse = (normalized(old + sign * ahead - wanted, s) for sign in (1, -1))
        policy = (batch.weight * (r * better + (1 - r) * worse)).mean() * self.clip / self.strength
        return policy, {"old_distance": (v - old).detach().square().mean().item()}

    def after_epoch(self, policies: Policies, epoch: int) -> None:
        policies.update("old", min(self.growth * max(0, epoch - self.wait), self.most))


def normalized(error: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """[B] mean squared error of the x0 that a velocity off by `error` predicts at s, over its own detached mean absolute error."""
    off = error * s.reshape(-1, *[1] * (error.ndim - 1))
    scale = off.detach().abs().flatten(1).mean(1).clamp(min=1e-5)
    return off.square().flatten(1).mean(1) / scale
