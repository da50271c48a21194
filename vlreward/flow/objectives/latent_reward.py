"""No policy is trained: rollouts are judged, and a reward of noisy latents learns from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from vlreward.advantages.base import Advantage
from vlreward.flow.collect import Collected, Judge
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.latent_reward import ConditionOf, Learner, Learning
from vlreward.flow.objectives.base import STEPS, Objective
from vlreward.flow.plan import Plan
from vlreward.flow.sampler import Sampler
from vlreward.registry import register
from vlreward.types import RewardTable

if TYPE_CHECKING:
    from vlreward.flow.processes import Processes


@dataclass(kw_only=True)
class LatentJudge(Objective):
    """Base of objectives that learn a latent reward from each epoch's rollouts; the run's folder gets it as `latent_reward`."""

    critic: Learning = field(default_factory=Learning)

    def prepare(self, shape: Sequence[int], condition: ConditionOf, processes: Processes, seed: int) -> None:
        self.learner = Learner(self.critic, shape, condition, processes, seed)
        self.learned: dict[str, float] = {}

    def score(self, collected: Collected, judge: Judge) -> RewardTable:
        collected.for_credit["ends"] = torch.cat([part.x0 for part in collected.parts])
        return super().score(collected, judge)

    def credit(self, collected: Collected, table: RewardTable, advantage: Advantage) -> None:
        super().credit(collected, table, advantage)
        ends, prompts = collected.for_credit["ends"], [rollout.sample.prompt for rollout in collected.rollouts]
        self.learned = self.learner.learn(ends, collected.group_B, table.total, prompts, collected.keys[0][0])

    def state_dict(self) -> dict[str, Any]:
        return self.learner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.learner.load_state_dict(state)

    def figures(self) -> dict[str, float]:
        return self.learned

    def export(self, folder: Path) -> None:
        self.learner.model.save(folder / "latent_reward")


@register("latent_reward")
@dataclass(kw_only=True)
class LatentRewardOnly(LatentJudge):
    """Learns which of two rollouts of a prompt is judged better, from their latents at any noise level; the generator stays as it is.

    Its gradient guides sampling where the judges have none, or cost too much to ask at every step. Rollouts are the ODE's.
    Known failure: it knows the pictures that this generator made; guided far from them, it says nothing.
    Source: the noisy latent reward model of Flow-NRG, arXiv 2501.13918.
    """

    needs_log_prob: ClassVar[bool] = False
    overrides: ClassVar[tuple[str, ...]] = STEPS

    def plan(self, sampler: Sampler, grid: torch.Tensor, epoch: int, seed: int) -> Plan:
        return replace(super().plan(sampler, grid, epoch, seed), kernel=Ode(), noisy=(), train=())
