"""TP-GRPO: steps that turn a rollout round are credited with all that came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from vlreward.flow.objectives.dense_grpo import DenseGrpo
from vlreward.registry import register
from vlreward.types import RewardTable


@register("tp_grpo")
@dataclass(kw_only=True)
class TpGrpo(DenseGrpo):
    """Flow-GRPO with each step's own gain, as DenseGRPO, but at turning points the gain up to the end: the finished reward less that
    before the step.

    A turning point is a step that goes the way the rollout went as a whole, after one that went the other way (or as the first), and
    from which the rest of the rollout goes on that way. Each reward term has its own. With `balance` only as many that lead up as lead
    down are kept, the largest; the others count as ordinary steps. The reward before the first step is that of the ODE's picture from the
    same starting noise (published code draws another noise there, which mixes two pictures into the first gain).
    Known failure: that of DenseGRPO; and without `balance` a policy that mostly improves is told so nearly everywhere.
    Source: arXiv 2602.06422 (TP-GRPO) and github.com/YunzeTong/TurningPoint-GRPO, the settings of its scripts.
    """

    balance: bool = True

    def gains(self, tables: Sequence[RewardTable]) -> list[RewardTable]:
        gains = super().gains(tables)
        names, self.turned = tables[-1].names, 0.0
        for column in range(len(names)):
            reward = torch.stack([table.scores[:, column] for table in tables], 1)
            step_BS, turned_BS = turning_points(reward, self.balance)
            self.turned += turned_BS.double().mean().item() / len(names)
            for j, table in enumerate(gains):
                scores = table.scores.clone()
                scores[:, column] = step_BS[:, j]
                gains[j] = replace(table, scores=scores)
        return gains

    def figures(self) -> dict[str, float]:
        return super().figures() | {"turning_points": self.turned}


def turning_points(reward: torch.Tensor, balance: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """What each step is worth [N,S] and whether it is a turning point [N,S], from rewards before the first step and after each [N,S+1].

    Steps beside a reward that is NaN are none, nor are any of a rollout whose first or last reward is NaN.
    """
    gained, ahead, whole = reward.diff(dim=1), reward[:, -1:] - reward[:, 1:], reward[:, -1:] - reward[:, :1]
    along = gained.sign() * whole.sign()
    came = torch.cat([-torch.ones_like(along[:, :1]), along[:, :-1]], 1)
    turned = (came < 0) & (along > 0) & (gained.sign() * ahead.sign() > 0)
    total = reward[:, -1:] - reward[:, :-1]
    if balance:
        count = min(int((turned & (sign * total > 0)).sum()) for sign in (1, -1))
        kept = torch.zeros_like(turned).flatten()
        for sign in (1, -1):
            size = (sign * total).masked_fill(~turned, -float("inf")).nan_to_num(nan=-float("inf")).flatten()
            kept[size.argsort(descending=True, stable=True)[:count]] = True
        turned = kept.reshape(turned.shape)
    return torch.where(turned, total, gained), turned
