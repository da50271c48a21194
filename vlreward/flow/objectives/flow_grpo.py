"""Flow-GRPO: the clipped policy gradient over stochastic denoising steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from vlreward.advantages.base import Advantage
from vlreward.config import NotNegative, Positive
from vlreward.flow.collect import Batch, Collected
from vlreward.flow.kernels.base import kl
from vlreward.flow.objectives.base import Objective
from vlreward.flow.rollout import Velocity
from vlreward.registry import register
from vlreward.types import Loss, RewardTable


@register("flow_grpo")
@dataclass(kw_only=True)
class FlowGrpo(Objective):
    """mean max(-A ratio, -A clip(ratio, 1 - clip, 1 + clip)) + beta KL(train || base), a term a transition.

    The ratio is that of densities to the power 1/dimensions (see Step.log_prob), so clip is small and tied to the kernel. The KL has a
    closed form, since both steps are Gaussians of the same width. Known failure: without KL, reward goes up while quality and diversity
    go down (the paper's ablation); watch in-group diversity and a held-out reward.
    Source: arXiv 2505.05470 and github.com/yifan123/flow_grpo.
    """

    clip: Positive = 1e-4
    beta: NotNegative = 0.0
    """Weight of the KL to the model before training; 0 saves a forward pass."""
    kl_units: Literal["true", "flow_grpo"] = "true"
    """`flow_grpo`: the KL times the step's length, as in that code; its published beta 0.04 is meant so."""

    step_weight: Literal["equal", "noise"] = "equal"
    """How much each trained step counts. A step's gradient scales with its length over its noise, so that with `equal` the last, least
    noisy steps decide nearly everything; `noise` weighs by std / mean std, as TempFlow-GRPO does (arXiv 2508.04324)."""

    @property
    def policies(self) -> frozenset[str]:
        return frozenset({"base"} if self.beta else ())

    def credit(self, collected: Collected, table: RewardTable, advantage: Advantage) -> None:
        """Each trained step gets its rollout's advantage, weighed by `step_weight`."""
        super().credit(collected, table, advantage)
        if self.step_weight == "noise":
            plan, nothing = collected.plan, torch.zeros(len(collected.plan.train), 1)
            steps = torch.tensor(plan.train)
            std_S = plan.kernel(nothing, nothing, plan.sigmas[steps], plan.sigmas[steps + 1]).std.flatten()
            collected.weight_BS = (std_S / std_S.mean()).expand(len(collected.rollouts), -1)

    def loss(self, velocity: Velocity, batch: Batch) -> Loss:
        x, s, s_next, advantage = batch.x, batch.s, batch.s_next, batch.advantage
        step = batch.kernel(x, velocity(x, s), s, s_next)
        ratio = (step.log_prob(batch.x_next) - batch.log_prob).exp()
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        policy = (batch.weight * torch.maximum(-advantage * ratio, -advantage * clipped)).mean()
        outside = ((advantage > 0) & (ratio > 1 + self.clip)) | ((advantage < 0) & (ratio < 1 - self.clip))
        metrics = {
            "loss/policy": policy.item(),
            "ratio/mean": ratio.mean().item(),
            "ratio/deviation": (ratio - 1).abs().max().item(),
            "clip_fraction": outside.float().mean().item(),
        }
        if not self.beta:
            return Loss(value=policy, metrics=metrics)
        base = batch.kernel(x, velocity(x, s, "base"), s, s_next)
        divergence = kl(step, base, s, s_next, self.kl_units).mean()
        return Loss(value=policy + self.beta * divergence, metrics=metrics | {"loss/kl": divergence.item()})
