"""Euphonium: sampling is led by the gradient of a latent reward, and the policy learns to go there by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch

from vlreward.advantages.base import Advantage
from vlreward.config import Bound, Fraction, NotNegative
from vlreward.flow.collect import Collected, Judge
from vlreward.flow.math import wide
from vlreward.flow.objectives.flow_grpo import FlowGrpo
from vlreward.flow.objectives.latent_reward import LatentJudge
from vlreward.flow.plan import Drift, Plan
from vlreward.flow.sampler import Sampler
from vlreward.registry import register
from vlreward.types import RewardOutput, RewardTable


@register("euphonium")
@dataclass(kw_only=True)
class Euphonium(LatentJudge, FlowGrpo):
    """Flow-GRPO's loss on rollouts whose noisy steps are pushed by `guidance` * (s - s_next) * grad r(x, s, prompt), with the latent
    reward r that is learned from the same rollouts.

    The ratio is that of the unguided steps, for the weights that sampled and those that learn alike: it is 1 at first, and what the push
    brought about is credited to the policy, which so takes it over and needs no push later. A step's advantage is the rollout's own
    (times `outcome`) and, times `process`, that of r after the step, compared within the group. r begins with nothing known, so both
    wait for `warmup` epochs unless `critic.start` names one. It is told of rollouts after they were credited by it.
    Known failure: where r is wrong, so are the rollouts; watch `latent_reward/accuracy`, which is measured before r learns from them.
    Source: arXiv 2602.04928 (Euphonium) and github.com/zerzerzerz/Euphonium, on `dance` with shared noise: guidance 0.25^2 / (2 * 3.125) =
    0.01 from step 12 of 16 on, both shares 1; its reward model is trained beforehand.
    """

    guidance: NotNegative = 0.01
    normalized: bool = False
    """Gradients are scaled to a root mean square of 1, so that `guidance` does not depend on how sure r is."""
    guided_from: Fraction = 0.75
    """Part of the steps before the push begins."""
    outcome: NotNegative = 1.0
    process: NotNegative = 1.0
    warmup: Annotated[int, Bound(0)] = 2

    def plan(self, sampler: Sampler, grid: torch.Tensor, epoch: int, seed: int) -> Plan:
        plan = super().plan(sampler, grid, epoch, seed)
        if not self.guidance or not self.knows(epoch):
            return plan
        return replace(plan, guide=self.guide, guided=tuple(step for step in plan.noisy if step >= self.guided_from * plan.steps))

    def knows(self, epoch: int) -> bool:
        """Whether the latent reward is asked in this epoch."""
        return epoch >= self.warmup or self.critic.start is not None

    def guide(self, prompts: Sequence[str]) -> Drift:
        """What is added to a step's mean for these prompts: the latent reward's gradient at x, times `guidance` and the step's length."""
        condition = self.learner.condition(prompts)

        def drift(x: torch.Tensor, s: torch.Tensor, s_next: torch.Tensor) -> torch.Tensor:
            gradient = self.learner.model.gradient(x, s, condition)
            if self.normalized:
                gradient = gradient / wide(gradient.flatten(1).square().mean(1).sqrt().clamp(min=1e-12), x)
            return self.guidance * wide(s - s_next, x) * gradient

        return drift

    @torch.no_grad()
    def score(self, collected: Collected, judge: Judge) -> RewardTable:
        columns, first = [], 0
        for part in collected.parts:
            rollouts = collected.rollouts[first : first + len(part.x0)]
            condition, first = self.learner.condition([rollout.sample.prompt for rollout in rollouts]), first + len(part.x0)
            levels = [collected.plan.sigmas[step + 1].to(part.x0.device).expand(len(part.x0)) for step in collected.plan.train]
            columns.append(torch.stack([self.learner.model(part.x_next[:, j], s, condition) for j, s in enumerate(levels)], 1))
        collected.for_credit["process"] = torch.cat(columns).cpu().double()
        return super().score(collected, judge)

    def credit(self, collected: Collected, table: RewardTable, advantage: Advantage) -> None:
        super().credit(collected, table, advantage)
        assert collected.advantage_BS is not None, "set by the base"
        collected.advantage_BS = self.outcome * collected.advantage_BS
        if self.process and self.knows(collected.keys[0][0]):
            unjudged = table.total.isnan()
            process_BS = collected.for_credit["process"].masked_fill(unjudged[:, None], float("nan"))
            each = [advantage(alone(column), collected.group_B) for column in process_BS.T]
            collected.advantage_BS = collected.advantage_BS + self.process * torch.stack(each, 1)


def alone(scores: torch.Tensor) -> RewardTable:
    """Scores [B] as the table of a single term."""
    output = RewardOutput(scores=scores)
    return RewardTable(names=("process",), weights=torch.ones(1, dtype=torch.float64), scores=scores[:, None], outputs={"process": output})
