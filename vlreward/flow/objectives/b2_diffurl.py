"""B2-DiffuRL: the last steps first, and of rollouts that branch there the outstanding ones alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from vlreward.config import Count, NotNegative, Positive
from vlreward.errors import ConfigError
from vlreward.flow.collect import Batch, Collected
from vlreward.flow.kernels.base import Step
from vlreward.flow.latent_reward import ConditionOf
from vlreward.flow.objectives.base import STEPS
from vlreward.flow.objectives.policy_gradient import PolicyGradient, clipped
from vlreward.flow.plan import Plan
from vlreward.flow.sampler import Sampler
from vlreward.registry import register
from vlreward.types import RewardTable

if TYPE_CHECKING:
    from vlreward.flow.processes import Processes


@register("b2_diffurl")
@dataclass(kw_only=True)
class B2Diffurl(PolicyGradient):
    """The clipped policy gradient on the last `first` steps, and by stages on ever earlier ones too.

    The rollouts of a group are one up to the first trained step, by the ODE, and then branch. Of a group the best is trained on if its
    reward stands out among those of its prompt by `threshold` deviations, and the worst if it falls behind by as much; the others are
    not computed on. A prompt's mean and deviation are over its groups in the last `history` epochs that drew it. How much a chosen
    rollout counts is its advantage (published code takes the standardised reward itself).
    Known failure: a prompt drawn once has only its own few branches to stand out from; draw few prompts, often.
    Source: arXiv 2503.11240 (B2-DiffuRL) and its code, on SD 1.4: 20 steps of which the last 6, 3 branches, clip 0.1, 10 epochs a stage.
    """

    whole_groups: ClassVar[bool] = True
    overrides: ClassVar[tuple[str, ...]] = (*STEPS, "share_noise")
    clip: Positive = 0.1
    first: Count = 6
    """Trained steps in the first stage."""
    grow: Count = 2
    """Steps that each stage adds in front, until there are no more."""
    stage: Count = 10
    """Epochs of a stage."""
    threshold: NotNegative = 0.7
    history: Count = 8

    def __post_init__(self):
        self.rewards: dict[str, list[list[float]]] = {}
        self.share = 0.0

    def check(self, size: int) -> None:
        if self.best_worst is not None:
            raise ConfigError(f"is {self.best_worst}, but {self.kind!r} chooses rollouts itself; remove it", "best_worst")

    def plan(self, sampler: Sampler, grid: torch.Tensor, epoch: int, seed: int) -> Plan:
        end = sampler.schedule.last_noisy
        if self.first > end:
            raise ConfigError(f"is {self.first}, expected at most the {end} steps that can be noisy", "objective.first")
        start = max(0, end - self.first - self.grow * (epoch // self.stage))
        plan, steps = sampler.plan(grid, epoch, seed), tuple(range(start, end))
        return replace(plan, share_noise=True, noisy=steps, train=steps, branch=start)

    def choose(self, collected: Collected, table: RewardTable) -> None:
        prompts = [rollout.sample.prompt for rollout in collected.rollouts]
        total = table.total.tolist()
        judged = {row for row, value in enumerate(total) if value == value}
        for prompt in dict.fromkeys(prompts):
            now = [total[row] for row in sorted(judged) if prompts[row] == prompt]
            self.rewards[prompt] = [*self.rewards.get(prompt, []), now][-self.history :]
        chosen = []
        for rows in collected.groups():
            known = torch.tensor([value for part in self.rewards[prompts[rows[0]]] for value in part], dtype=torch.float64)
            ranked = sorted(judged & set(rows), key=lambda row: total[row])
            if len(ranked) < 2 or known.std() == 0:
                continue
            low, high = ((total[row] - known.mean().item()) / known.std().item() for row in (ranked[0], ranked[-1]))
            chosen += [[ranked[-1]]] * (high >= self.threshold) + [[ranked[0]]] * (low <= -self.threshold)
        self.share = len(chosen) / len(total)
        collected.keep(chosen)

    def surrogate(self, ratio: torch.Tensor, step: Step, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return clipped(ratio, batch.advantage, self.clip)

    def prepare(self, shape: Sequence[int], condition: ConditionOf, processes: Processes, seed: int) -> None:
        self.rewards = {}

    def state_dict(self) -> dict[str, Any]:
        return {"rewards": self.rewards}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rewards = {prompt: list(parts) for prompt, parts in state["rewards"].items()}

    def figures(self) -> dict[str, float]:
        return {"chosen": self.share}
