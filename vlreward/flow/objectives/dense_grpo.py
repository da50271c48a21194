"""DenseGRPO: each step is credited with what it gained."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from vlreward.advantages.base import DEAD, Advantage
from vlreward.config import Fraction, NotNegative, Positive
from vlreward.errors import ConfigError
from vlreward.flow.collect import Collected, Judge
from vlreward.flow.latent_reward import ConditionOf
from vlreward.flow.objectives.flow_grpo import FlowGrpo
from vlreward.flow.plan import Plan
from vlreward.flow.sampler import Sampler
from vlreward.registry import register
from vlreward.types import RewardOutput, RewardTable

if TYPE_CHECKING:
    from vlreward.flow.processes import Processes


@register("dense_grpo")
@dataclass(kw_only=True)
class DenseGrpo(FlowGrpo):
    """Flow-GRPO with an advantage of its own for each step: the reward after it less the reward before it, compared within the group.

    The reward at a step is that of the picture which the ODE, along all remaining steps, makes of the latents there; that after the last
    noisy step is the finished rollout's. So gains add up to the finished reward less that of the first latents' picture. They cost a
    completion and a judgement for each trained step. One-step predictions would be cheaper and are worse than none (the paper's
    ablation), being blurred.

    With `calibrate` each noisy step has noise of its own, which starts at the kernel's. After an epoch, where about as many rollouts
    gained by a step as lost by it, the step can stand more and its noise grows by `calibrate`; where gains or losses prevail it falls
    by as much. A step without gains or losses keeps its own. On the kernel `dance` the noise is the paper's psi(t) itself, on
    `flow_sde` it is psi(t) over sqrt(s / (1 - s)).
    Known failure: a coarse reward gains nothing at most steps; those groups are dead at that step.
    Source: arXiv 2601.20218 (DenseGRPO), algorithm 1 for the calibration, whose constants it does not print.
    """

    overrides: ClassVar[tuple[str, ...]] = ("trained",)
    calibrate: NotNegative = 0.0
    """How much a step's noise changes after an epoch; 0 leaves it alone."""
    balanced: Fraction = 0.2
    """Of gains and losses, how large a share their difference may be to be called balanced."""
    least_noise: Positive = 0.1
    most_noise: Positive = 1.0

    def __post_init__(self):
        if self.least_noise > self.most_noise:
            raise ConfigError(f"is {self.least_noise}, expected at most most_noise = {self.most_noise}", "least_noise")
        self.noise: dict[int, float] = {}

    def plan(self, sampler: Sampler, grid: torch.Tensor, epoch: int, seed: int) -> Plan:
        """Every noisy step is stored, since gains are differences of neighbours."""
        plan = super().plan(sampler, grid, epoch, seed)
        plan = replace(plan, train=plan.noisy)
        if not self.calibrate:
            return plan
        own: float = vars(plan.kernel)["noise"]
        return replace(plan, noise=tuple(self.noise.get(step, own) for step in plan.noisy))

    def score(self, collected: Collected, judge: Judge) -> RewardTable:
        collected.on_the_way = [judge(collected.completed(j)) for j in range(len(collected.plan.train))]
        return super().score(collected, judge)

    def gains(self, tables: Sequence[RewardTable]) -> list[RewardTable]:
        """What each trained step is worth, from the rewards before the first one and after each; of all rollouts at once."""
        return [gain(before, after) for before, after in itertools.pairwise(tables)]

    def credit(self, collected: Collected, table: RewardTable, advantage: Advantage) -> None:
        super().credit(collected, table, advantage)
        gains = self.gains([*collected.on_the_way, table])
        collected.advantage_BS = torch.stack([advantage(step, collected.group_B) for step in gains], 1)
        if not self.calibrate:
            return
        for step, noise, gained in zip(collected.plan.train, collected.plan.noise, gains, strict=True):
            up, down = ((sign * gained.total > DEAD).sum().item() for sign in (1, -1))
            if up + down:
                change = self.calibrate if abs(up - down) <= self.balanced * (up + down) else -self.calibrate
                self.noise[step] = min(max(noise + change, self.least_noise), self.most_noise)

    def prepare(self, shape: Sequence[int], condition: ConditionOf, processes: Processes, seed: int) -> None:
        self.noise = {}

    def state_dict(self) -> dict[str, Any]:
        return {"noise": self.noise}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.noise = dict(state["noise"])

    def figures(self) -> dict[str, float]:
        return {f"noise/step_{step}": value for step, value in sorted(self.noise.items())}


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
