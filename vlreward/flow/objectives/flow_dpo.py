"""Flow-DPO, online: the best against the worst rollout of each group."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from vlreward.advantages.base import Advantage
from vlreward.config import Positive
from vlreward.flow.collect import Batch, Collected
from vlreward.flow.objectives.forward import Compared, error, ranked
from vlreward.flow.rollout import Velocity
from vlreward.registry import register
from vlreward.types import RewardTable


@register("flow_dpo")
@dataclass(kw_only=True)
class FlowDpo(Compared):
    """-log sigmoid(-(strength / 2) ((l_w - l_w_ref) - (l_l - l_l_ref))) of the best and the worst rollout of each group.

    l is the flow-matching error |v - (eps - x0)|^2 as the mean over dimensions, which is why `strength` (the paper's beta, constant over
    levels) is large; level and noise are the same for both. A group whose rewards are all equal gives no pair, where published code
    makes one of two chance rollouts. Only the two are computed on.
    Known failure: both errors can rise as long as the worse one's rises more; watch `error/better`.
    Source: arXiv 2501.13918 (Improving Video Generation with Human Feedback); train_sd3_dpo.py of yifan123/flow_grpo, strength 100.
    """

    strength: Positive = 100.0

    def credit(self, collected: Collected, table: RewardTable, advantage: Advantage) -> None:
        super().credit(collected, table, advantage)
        collected.keep([[rows[0], rows[-1]] for rows in ranked(collected, table)])

    def matching(self, v: torch.Tensor, velocity: Velocity, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        assert torch.equal(batch.group[0::2], batch.group[1::2]), "pairs are of one group"
        now = error(v, batch)
        gained = now - error(velocity(batch.x, batch.s, self.reference), batch)
        margin = gained[0::2] - gained[1::2]
        metrics = {"preferred": (margin < 0).float().mean().item(), "error/better": now[0::2].mean().item()}
        return F.softplus(self.strength / 2 * margin).mean(), metrics
