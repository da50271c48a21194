"""DenseGRPO: each step is credited with what it gained."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from vlreward.advantages.base import Advantage
from vlreward.flow.collect import Collected, Judge
from vlreward.flow.objectives.flow_grpo import FlowGrpo
from vlreward.flow.plan import Plan
from vlreward.flow.sampler import Sampler
from vlreward.registry import register
from vlreward.types import RewardOutput, RewardTable


@register("dense_grpo")
@dataclass(kw_only=True)
class DenseGrpo(FlowGrpo):
    """Flow-GRPO with an advantage of its own for each step: the reward after it less the reward before it, compared within the group.

    The reward at a step is that of the picture which the ODE, along all remaining steps, makes of the latents there; that after the last
    noisy step is the finished rollout's. So gains add up to the finished reward less that of the first latents' picture. They cost a
    completion and a judgement for each trained step. One-step predictions would be cheaper and are worse than none (the paper's
    ablation), being blurred. The paper's calibration of the noise by step is left out.
    Known failure: a coarse reward gains nothing at most steps; those groups are dead at that step.
    Source: arXiv 2601.20218 (DenseGRPO).
    """

    overrides: ClassVar[tuple[str, ...]] = ("trained",)

    def plan(self, sampler: Sampler, grid: torch.Tensor, epoch: int, seed: int) -> Plan:
        """Every noisy step is stored, since gains are differences of neighbours."""
        plan = super().plan(sampler, grid, epoch, seed)
        return replace(plan, train=plan.noisy)

    def score(self, collected: Collected, judge: Judge) -> RewardTable:
        final = judge(collected.rollouts)
        tables = [*(judge(collected.completed(j)) for j in range(len(collected.plan.train))), final]
        collected.gains = [gain(before, after) for before, after in itertools.pairwise(tables)]
        return final

    def credit(self, collected: Collected, table: RewardTable, advantage: Advantage) -> None:
        super().credit(collected, table, advantage)
        collected.advantage_BS = torch.stack([advantage(step, collected.group_B) for step in collected.gains], 1)


def gain(before: RewardTable, after: RewardTable) -> RewardTable:
    """What each term gained; NaN where it lacks either, broken where either broke."""
    scores = after.scores - before.scores
    outputs = {
        name: RewardOutput(
            scores=scores[:, column],
            errors=[a or b for a, b in zip(before.outputs[name].errors, after.outputs[name].errors, strict=True)],
        )
        for column, name in enumerate(after.names)
    }
    return replace(after, scores=scores, outputs=outputs)
