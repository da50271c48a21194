"""What objectives of the forward process share: finished rollouts, noised anew, and how well a velocity matches them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch

from vlreward.advantages.base import DEAD, Advantage
from vlreward.config import Bound, Count, Fraction, NotNegative, Positive
from vlreward.errors import ConfigError
from vlreward.flow.collect import Batch, Collected
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.objectives.base import STEPS, Objective
from vlreward.flow.plan import Plan
from vlreward.flow.policies import Policies
from vlreward.flow.rollout import Velocity
from vlreward.flow.sampler import Sampler
from vlreward.types import Loss, RewardTable


@dataclass(kw_only=True)
class Forward(Objective):
    """Base of objectives that need no log-probabilities: rollouts by the ODE with the live weights, renoised at random levels."""

    needs_log_prob: ClassVar[bool] = False
    overrides: ClassVar[tuple[str, ...]] = STEPS
    shared_levels: ClassVar[bool] = False
    """Whether a group's rollouts are noised alike."""
    levels: Count = 2
    """Noise levels at which each rollout is trained, one drawn from each equal part of [lowest, highest]."""
    lowest: Fraction = 0.0
    """DGPO's code leaves out the least noisy ones (0.56 for Stable Diffusion 3), AWM's some of them (about 0.3)."""
    highest: Fraction = 1.0
    beta: NotNegative = 0.0
    """Weight of |v - v_base|^2."""

    def __post_init__(self):
        if self.lowest >= self.highest:
            raise ConfigError(f"is {self.lowest:g}, expected less than highest = {self.highest:g}", "lowest")

    @property
    def policies(self) -> frozenset[str]:
        return frozenset({"base"} if self.beta else ())

    def plan(self, sampler: Sampler, grid: torch.Tensor, epoch: int, seed: int) -> Plan:
        """All steps by the ODE."""
        plan = sampler.plan(grid, epoch, seed)
        return replace(
            plan,
            kernel=Ode(),
            noisy=(),
            train=(),
            renoised=self.levels,
            levels=(self.lowest, self.highest),
            shared_levels=self.shared_levels,
        )

    def credit(self, collected: Collected, table: RewardTable, advantage: Advantage) -> None:
        """A rollout without a reward is not trained on: even an advantage of 0 can mean a pull, towards older weights."""
        super().credit(collected, table, advantage)
        judged = ~table.total.isnan()
        if not judged.all():
            collected.keep([[row] for row in judged.nonzero().flatten().tolist()])

    def matching(self, v: torch.Tensor, velocity: Velocity, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """The scalar to minimise, given the live velocity at the batch's x, and what to log of it."""
        raise NotImplementedError(f"{type(self).__name__} must define matching")

    def loss(self, velocity: Velocity, batch: Batch) -> Loss:
        v = velocity(batch.x, batch.s)
        policy, metrics = self.matching(v, velocity, batch)
        metrics = {"loss/policy": policy.item()} | metrics
        if not self.beta:
            return Loss(value=policy, metrics=metrics)
        divergence = (v - velocity(batch.x, batch.s, "base")).square().mean()
        return Loss(value=policy + self.beta * divergence, metrics=metrics | {"loss/kl": divergence.item()})


@dataclass(kw_only=True)
class Compared(Forward):
    """Base of objectives that compare how well the live and the reference weights match the rollouts of one group.

    All rollouts of a group are noised alike, so that what differs is the rollouts and not the noise.
    """

    shared_levels: ClassVar[bool] = True
    refresh: Annotated[int, Bound(0)] = 0
    """Epochs after which the reference becomes the live weights; 0 leaves it at the base."""

    @property
    def reference(self) -> str:
        """Name of the weights that are compared with."""
        return "reference" if self.refresh else "base"

    @property
    def policies(self) -> frozenset[str]:
        return super().policies | {self.reference}

    def after_epoch(self, policies: Policies, epoch: int) -> None:
        if self.refresh and (epoch + 1) % self.refresh == 0:
            policies.update("reference")


@dataclass(kw_only=True)
class ComparedGroups(Compared):
    """Base of objectives whose loss is a function of a whole group at once."""

    whole_groups: ClassVar[bool] = True
    strength: Positive = 100.0
    """Of the implicit reward, which is this many times the difference of two flow-matching errors."""

    def credit(self, collected: Collected, table: RewardTable, advantage: Advantage) -> None:
        super().credit(collected, table, advantage)
        judged = (~table.total.isnan()).tolist()
        collected.keep([kept for rows in collected.groups() if (kept := [row for row in rows if judged[row]])])


def error(v: torch.Tensor, batch: Batch) -> torch.Tensor:
    """[B] mean squared difference between v and the straight way to the rollout's end: the flow-matching loss."""
    return (v - batch.straight).square().flatten(1).mean(1)


def over_groups(value: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """[B] the sum of `value` [B] over each row's group; carries gradient."""
    _, index = torch.unique(group, return_inverse=True)
    return torch.zeros(int(index.max()) + 1, dtype=value.dtype, device=value.device).index_add(0, index, value)[index]


def ranked(collected: Collected, table: RewardTable) -> list[list[int]]:
    """The judged rows of each group, best first; groups in which no two totals differ are left out."""
    total = table.total.tolist()
    groups = [sorted((row for row in rows if total[row] == total[row]), key=lambda row: -total[row]) for rows in collected.groups()]
    return [rows for rows in groups if len(rows) > 1 and total[rows[0]] - total[rows[-1]] > DEAD]
