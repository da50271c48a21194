"""TempFlow-GRPO: one noisy step a rollout, which alone is credited with what became of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from vlreward.advantages.base import Advantage
from vlreward.config import Count, Positive
from vlreward.errors import ConfigError
from vlreward.flow.collect import Batch, Collected
from vlreward.flow.kernels.base import Step
from vlreward.flow.objectives.base import STEPS
from vlreward.flow.objectives.policy_gradient import PolicyGradient, clipped, spread_and_gain
from vlreward.flow.plan import Plan, seeded
from vlreward.flow.sampler import Sampler
from vlreward.registry import register
from vlreward.types import RewardTable


@register("tempflow_grpo")
@dataclass(kw_only=True)
class TempflowGrpo(PolicyGradient):
    """Flow-GRPO's clipped loss on the one step at which the rollouts of a group branch; all others go by the ODE.

    A group starts from one noise and is one rollout up to a step drawn anew each epoch, which each then takes with its own noise. All
    that differs within a group is the noise of that step, so the reward is exactly its credit. The way to it is computed once a group.
    A group is a prompt and a starting noise: several groups of few stand for the paper's 4 seeds of 6 branches a prompt. Epochs weigh
    by the step's std over the mean std of all steps that can be drawn, which undoes the growth of gradients as noise falls.
    Known failure: late branches hardly differ, and their groups are dead for a coarse reward; `before` leaves them out.
    Source: arXiv 2508.04324 (TempFlow-GRPO).
    """

    whole_groups: ClassVar[bool] = True
    overrides: ClassVar[tuple[str, ...]] = (*STEPS, "share_noise")
    clip: Positive = 1e-4
    before: Count | None = None
    """Branching steps are drawn from those before this one; none is all but the last."""

    def plan(self, sampler: Sampler, grid: torch.Tensor, epoch: int, seed: int) -> Plan:
        last = len(grid) - 2  # nothing is left to branch into at the last step
        if self.before is not None and self.before > last:
            raise ConfigError(f"is {self.before}, expected at most the {last} steps before the last", "objective.before")
        plan = replace(sampler.plan(grid, epoch, seed), share_noise=True)
        k = int(torch.randint(self.before or last, (1,), generator=seeded(seed, "branch", epoch)))
        return replace(plan, noisy=(k,), train=(k,), branch=k, multistep=None if plan.multistep is None else k + 1)

    def credit(self, collected: Collected, table: RewardTable, advantage: Advantage) -> None:
        super().credit(collected, table, advantage)
        plan = collected.plan
        steps = range(self.before or plan.steps - 1)
        std_S, _ = spread_and_gain(plan, steps)
        collected.weight_BS = (std_S[plan.train[0]] / std_S.mean()).expand(len(collected.rollouts), 1)

    def surrogate(self, ratio: torch.Tensor, step: Step, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return clipped(ratio, batch.advantage, self.clip)
