"""What objectives that follow the gradient of a differentiable reward share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from vlreward.flow.collect import Batch
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.objectives.base import STEPS, Objective
from vlreward.flow.plan import Plan
from vlreward.flow.rollout import Velocity
from vlreward.flow.sampler import Sampler
from vlreward.types import Loss


@dataclass(kw_only=True)
class RewardGradient(Objective):
    """Minus the mean reward of clean ends that are computed again, with a gradient, from a step that the rollouts stored.

    A row without a reward gives no gradient.
    """

    needs_log_prob: ClassVar[bool] = False
    overrides: ClassVar[tuple[str, ...]] = STEPS
    needs_gradient: ClassVar[bool] = True

    def restart(self, steps: int, epoch: int, seed: int) -> int:
        """The step to compute again from."""
        raise NotImplementedError(f"{type(self).__name__} must define restart")

    def ends(self, velocity: Velocity, batch: Batch) -> torch.Tensor:
        """[B,*] clean ends of the batch's x, which carry gradient."""
        raise NotImplementedError(f"{type(self).__name__} must define ends")

    def plan(self, sampler: Sampler, grid: torch.Tensor, epoch: int, seed: int) -> Plan:
        """All steps by the ODE."""
        plan = sampler.plan(grid, epoch, seed)
        return replace(plan, kernel=Ode(), noisy=(), train=(), restart=self.restart(plan.steps, epoch, seed))

    def loss(self, velocity: Velocity, batch: Batch) -> Loss:
        value = self.minus_reward(self.ends(velocity, batch), batch)
        return Loss(value=value, metrics={"loss/policy": value.item()})

    def minus_reward(self, ends: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Minus the mean reward of these ends [B,*]."""
        assert batch.reward is not None, "the plan restarts"
        reward = batch.reward(ends)
        judged = ~reward.isnan()
        nothing = 0 * ends.sum()  # leads to the weights even where no row could be judged
        return nothing - reward.nan_to_num().sum() / judged.sum().clamp(min=1)
