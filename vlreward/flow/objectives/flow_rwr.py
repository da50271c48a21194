"""Reward-weighted regression: fine-tuning on one's own rollouts, the better the more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from vlreward.advantages.base import Advantage
from vlreward.config import Positive
from vlreward.flow.collect import Batch, Collected
from vlreward.flow.objectives.forward import Forward, error, over_groups
from vlreward.flow.rollout import Velocity
from vlreward.registry import register
from vlreward.types import RewardTable


@register("flow_rwr")
@dataclass(kw_only=True)
class FlowRwr(Forward):
    """G softmax(advantage / temperature) |v - (eps - x0)|^2, a term a renoised rollout, the softmax over its group of G.

    The softmax does not mind what is added to a group's rewards; with `advantage: {kind: group, std: none}` it is that of the reward
    itself, exp(r / temperature). Equal rewards give weight 1, plain fine-tuning. A rollout without a reward has weight 0.
    `scale: absolute` takes exp(r / temperature) itself in place of the group's softmax, r the reward whatever `advantage` is, so that
    groups may be of one picture each: the paper's form, for given pictures.
    Known failure: it only imitates the better ones and never leaves the worse, so it learns slowly and narrows what is drawn.
    Source: Flow-RWR of arXiv 2501.13918 (Improving Video Generation with Human Feedback), its factor (1 - t)^2 left out as there.
    """

    temperature: Positive = 1.0
    scale: Literal["group", "absolute"] = "group"

    def credit(self, collected: Collected, table: RewardTable, advantage: Advantage) -> None:
        super().credit(collected, table, advantage)
        assert collected.advantage_BS is not None, "set by the base"
        group, judged = collected.group_B, ~table.total.isnan()
        if self.scale == "absolute":
            weight_B = (table.total.nan_to_num() / self.temperature).exp() * judged
            collected.weight_BS = weight_B[:, None].expand(-1, collected.plan.trained)
            return
        weight_B = (collected.advantage_BS[:, 0] / self.temperature).exp() * judged
        share_B = weight_B / over_groups(weight_B, group).clamp(min=1e-300) * over_groups(judged.double(), group)
        collected.weight_BS = share_B[:, None].expand(-1, collected.plan.trained)

    def matching(self, v: torch.Tensor, velocity: Velocity, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        return (batch.weight * error(v, batch)).mean(), {"weight/max": batch.weight.max().item()}
