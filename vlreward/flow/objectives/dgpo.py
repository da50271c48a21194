"""DGPO: preference optimisation over whole groups, each rollout weighed by its advantage."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlreward.flow.collect import Batch
from vlreward.flow.objectives.forward import ComparedGroups, error, over_groups
from vlreward.flow.rollout import Velocity
from vlreward.registry import register


@register("dgpo")
@dataclass(kw_only=True)
class Dgpo(ComparedGroups):
    """sigmoid(Z) A l, a term a renoised rollout, with Z = strength / G sum_group A (l - l_ref) and no gradient through the sigmoid.

    That is the gradient of -log sigmoid(-Z) / strength: the group's better rollouts against its worse ones as in DPO, where the
    advantages' sum of 0 makes the intractable constant cancel. l is the flow-matching error as the mean over dimensions; level and noise
    are the same for the whole group, which stays in one micro-batch.
    Known failure: as DPO, it can lower what it prefers as long as the rest falls more; `beta` to the base holds it.
    Source: arXiv 2510.08425 (DGPO) and github.com/Luo-Yihong/DGPO: strength 100 against the base, 2000 against a moving reference.
    """

    def matching(self, v: torch.Tensor, velocity: Velocity, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        now = error(v, batch)
        gained = (now - error(velocity(batch.x, batch.s, self.reference), batch)).detach()
        size = over_groups(torch.ones_like(now), batch.group)
        share = torch.sigmoid(self.strength / size * over_groups(batch.advantage * gained, batch.group))
        return (share * batch.advantage * now).mean(), {"share": share.mean().item()}
