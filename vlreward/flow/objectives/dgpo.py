"""DGPO: preference optimisation over whole groups, each rollout weighed by its advantage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from vlreward.advantages.base import Advantage
from vlreward.config import Positive
from vlreward.flow.collect import Batch, Collected
from vlreward.flow.objectives.forward import Compared, error, over_groups
from vlreward.flow.rollout import Velocity
from vlreward.registry import register
from vlreward.types import RewardTable


@register("dgpo")
@dataclass(kw_only=True)
class Dgpo(Compared):
    """sigmoid(Z) A l, a term a renoised rollout, with Z = strength / G sum_group A (l - l_ref) and no gradient through the sigmoid.

    That is the gradient of -log sigmoid(-Z) / strength: the group's better rollouts against its worse ones as in DPO, where the
    advantages' sum of 0 makes the intractable constant cancel. l is the flow-matching error as the mean over dimensions; level and noise
    are the same for the whole group, which stays in one micro-batch.
    Known failure: as DPO, it can lower what it prefers as long as the rest falls more; `beta` to the base holds it.
    Source: arXiv 2510.08425 (DGPO) and github.com/Luo-Yihong/DGPO: strength 100 against the base, 2000 against a moving reference.
    """

    whole_groups: ClassVar[bool] = True
    strength: Positive = 100.0

    def credit(self, collected: Collected, table: RewardTable, advantage: Advantage) -> None:
        super().credit(collected, table, advantage)
        collected.keep(collected.groups())

    def matching(self, v: torch.Tensor, velocity: Velocity, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        now = error(v, batch)
        gained = (now - error(velocity(batch.x, batch.s, self.reference), batch)).detach()
        size = over_groups(torch.ones_like(now), batch.group)
        share = torch.sigmoid(self.strength / size * over_groups(batch.advantage * gained, batch.group))
        return (share * batch.advantage * now).mean(), {"share": share.mean().item()}
