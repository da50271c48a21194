"""Supervised fine-tuning on the best rollouts of each group."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlreward.advantages.base import Advantage
from vlreward.config import Count
from vlreward.flow.collect import Batch, Collected
from vlreward.flow.objectives.forward import Forward, error, ranked
from vlreward.flow.rollout import Velocity
from vlreward.registry import register
from vlreward.types import RewardTable


@register("best_of_group")
@dataclass(kw_only=True)
class BestOfGroup(Forward):
    """|v - (eps - x0)|^2 on the `best` rollouts of each group by total reward; the others are not trained on.

    A group whose rewards are all equal has no best, and is left out.
    Known failure: the picture of a weak judge's favourites is imitated whole, artefacts and all; diversity falls.
    Source: rejection sampling fine-tuning (RAFT, arXiv 2304.06767), and train_sd3_sft.py of yifan123/flow_grpo.
    """

    best: Count = 1

    def credit(self, collected: Collected, table: RewardTable, advantage: Advantage) -> None:
        super().credit(collected, table, advantage)
        collected.keep([[row] for rows in ranked(collected, table) for row in rows[: self.best]])

    def matching(self, v: torch.Tensor, velocity: Velocity, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        return error(v, batch).mean(), {}
