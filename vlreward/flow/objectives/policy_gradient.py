"""What all policy gradients over stochastic denoising steps share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch

from vlreward.advantages.base import Advantage
from vlreward.config import Bound, NotNegative
from vlreward.errors import ConfigError
from vlreward.flow.collect import Batch, Collected
from vlreward.flow.kernels.base import Step, kl
from vlreward.flow.objectives.base import Objective
from vlreward.flow.plan import Plan
from vlreward.flow.rollout import Velocity
from vlreward.types import Loss, RewardTable


@dataclass(kw_only=True)
class PolicyGradient(Objective):
    """mean weight * surrogate + beta KL(train || base), a term a transition; a method says what its surrogate is.

    The KL has a closed form, since both steps are Gaussians of the same width.
    """

    beta: NotNegative = 0.0
    """Weight of the KL to the model before training; 0 saves a forward pass."""
    kl_units: Literal["true", "flow_grpo"] = "true"
    """`flow_grpo`: the KL times the step's length, as in that code; its published beta 0.04 is meant so."""
    best_worst: Annotated[int, Bound(2)] | None = None
    """Only this many rollouts of each group are trained on: half of them those with the highest total reward, half with the lowest. All
    are compared with each other; an update costs as much less. Source: DanceGRPO's best-of-N, 8 of 24."""

    @property
    def policies(self) -> frozenset[str]:
        return frozenset({"base"} if self.beta else ())

    def step_weights(self, plan: Plan) -> torch.Tensor:
        """[S] float32: how much each trained step counts."""
        return torch.ones(len(plan.train))

    def credit(self, collected: Collected, table: RewardTable, advantage: Advantage) -> None:
        """Each trained step gets its rollout's advantage, weighed by `step_weights`."""
        super().credit(collected, table, advantage)
        collected.weight_BS = self.step_weights(collected.plan).expand(len(collected.rollouts), -1)

    def followed(self, step: Step, x_next: torch.Tensor) -> torch.Tensor:
        """[B] with the gradient that `log_ratio` has at the weights that sampled x_next [B,*]."""
        return step.log_prob(x_next)

    def unfollowed(self) -> str | None:
        """A method that credits, chooses or adds up its rollouts in its own way has advantages that differ from step to step, or none."""
        if any(getattr(type(self), name) is not getattr(PolicyGradient, name) for name in ("credit", "choose", "loss")):
            return super().unfollowed()
        if self.beta:
            return "objective.beta asks for a KL, which has a gradient of its own"
        return "objective.best_worst chooses rollouts when they are finished" if self.best_worst else None

    def check(self, size: int) -> None:
        if self.best_worst is not None and (self.best_worst % 2 or self.best_worst > size):
            raise ConfigError(f"is {self.best_worst}, expected an even number of at most group.size = {size}", "best_worst")

    def choose(self, collected: Collected, table: RewardTable) -> None:
        """Rows that nothing is known of stand in the middle, and are chosen last."""
        if self.best_worst is None:
            return
        total, half = table.total.tolist(), self.best_worst // 2
        chosen: list[list[int]] = []
        for rows in collected.groups():
            judged = sorted((row for row in rows if total[row] == total[row]), key=lambda row: -total[row])
            middle = (len(judged) + 1) // 2
            ordered = [*judged[:middle], *(row for row in rows if total[row] != total[row]), *judged[middle:]]
            chosen += [[row] for row in ordered[:half] + ordered[-half:]]
        collected.keep(chosen)

    def log_ratio(self, step: Step, batch: Batch) -> torch.Tensor:
        """[B] log of the policy ratio; 0 at the weights that sampled."""
        return step.log_prob(batch.x_next) - batch.log_prob

    def surrogate(self, ratio: torch.Tensor, step: Step, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """[B] to minimise, and [B] bool: the rows that are held back, whose part has no gradient."""
        raise NotImplementedError(f"{type(self).__name__} must define surrogate")

    def loss(self, velocity: Velocity, batch: Batch) -> Loss:
        x, s, s_next = batch.x, batch.s, batch.s_next
        step = batch.kernel(x, velocity(x, s), s, s_next)
        ratio = self.log_ratio(step, batch).exp()
        value, held = self.surrogate(ratio, step, batch)
        policy = (batch.weight * value).mean()
        metrics = {
            "loss/policy": policy.item(),
            "ratio/mean": ratio.mean().item(),
            "ratio/deviation": (ratio - 1).abs().max().item(),
            "clip_fraction": held.float().mean().item(),
        }
        if not self.beta:
            return Loss(value=policy, metrics=metrics)
        base = batch.kernel(x, velocity(x, s, "base"), s, s_next)
        divergence = kl(step, base, s, s_next, self.kl_units).mean()
        return Loss(value=policy + self.beta * divergence, metrics=metrics | {"loss/kl": divergence.item()})


def clipped(ratio: torch.Tensor, advantage: torch.Tensor, clip: float) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's surrogate max(-A ratio, -A clip(ratio, 1 - clip, 1 + clip)) [B], and where the clip holds it back."""
    value = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))
    held = ((advantage > 0) & (ratio > 1 + clip)) | ((advantage < 0) & (ratio < 1 - clip))
    return value, held


def spread_and_gain(plan: Plan, steps: range | tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """std and |d mean / d v| of the plan's kernel at each of S steps, both [S] float32."""
    one = torch.ones(1, 1)
    pairs = []
    for i in steps:
        kernel, at = plan.kernel_at(i) if i in plan.noisy else plan.kernel, (plan.sigmas[i : i + 1], plan.sigmas[i + 1 : i + 2])
        still, moved = (kernel(0 * one, v, *at) for v in (0 * one, one))
        pairs.append((still.std.reshape(1), (moved.mean - still.mean).abs().reshape(1)))
    return torch.cat([std for std, _ in pairs]), torch.cat([gain for _, gain in pairs])
