"""Flow-GRPO: the clipped policy gradient over stochastic denoising steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from vlreward.config import Positive
from vlreward.flow.collect import Batch
from vlreward.flow.kernels.base import Step
from vlreward.flow.objectives.policy_gradient import PolicyGradient, clipped, spread_and_gain
from vlreward.flow.plan import Plan
from vlreward.registry import register


@register("flow_grpo")
@dataclass(kw_only=True)
class FlowGrpo(PolicyGradient):
    """mean max(-A ratio, -A clip(ratio, 1 - clip, 1 + clip)) + beta KL(train || base), a term a transition.

    The ratio is that of densities to the power 1/dimensions (see Step.log_prob), so clip is small and tied to the kernel. Its variants
    are settings of the sampler: Fast is a `window`, MixGRPO one that may `slide`, DanceGRPO the kernel `dance` with `share_noise` and
    `trained`, CPS the kernel `cps`. Known failure: without KL, reward goes up while quality and diversity go down (the paper's
    ablation); watch in-group diversity and a held-out reward.
    Source: arXiv 2505.05470 and github.com/yifan123/flow_grpo; DanceGRPO arXiv 2505.07818, MixGRPO arXiv 2507.21802.
    """

    clip: Positive = 1e-4
    step_weight: Literal["equal", "noise"] = "equal"
    """How much each trained step counts. A step's gradient scales with its length over its noise, so that with `equal` the last, least
    noisy steps decide nearly everything; `noise` weighs by std / mean std, as TempFlow-GRPO does (arXiv 2508.04324)."""

    def step_weights(self, plan: Plan) -> torch.Tensor:
        if self.step_weight == "equal":
            return super().step_weights(plan)
        std_S, _ = spread_and_gain(plan, plan.train)
        return std_S / std_S.mean()

    def surrogate(self, ratio: torch.Tensor, step: Step, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return clipped(ratio, batch.advantage, self.clip)
