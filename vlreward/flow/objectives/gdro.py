"""GDRO: a whole group's implicit rewards are fitted to its judged ones, offline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from vlreward.advantages.base import Advantage
from vlreward.config import NotNegative, Positive
from vlreward.flow.collect import Batch, Collected
from vlreward.flow.objectives.forward import ComparedGroups, error, ranked
from vlreward.flow.rollout import Velocity
from vlreward.registry import register
from vlreward.types import RewardTable


@register("gdro")
@dataclass(kw_only=True)
class Gdro(ComparedGroups):
    """Cross entropy of softmax(s) to softmax(r / temperature) over a group, and `gamma` l of its best one.

    s = -strength (l - l_ref) is the implicit reward of a picture, l its flow-matching error as the mean over dimensions, at one level
    and noise for the group; r is the reward itself, whatever `advantage` is. `ranking: top` is that one cross entropy; `full` is
    Plackett-Luce: the same over all, then over all but the best, and so on. No rollout is needed, so it is made for given pictures
    (`group.pictures: given`); at the reference the loss is log k, or log k! in full, and with two pictures and a small temperature it
    is DPO's. Groups whose rewards are all equal are left out.
    Known failure: as DPO it may lower what it prefers as long as the rest falls more, which `gamma` counters; and it learns from what
    an older model drew. A judge can still be fooled: watch `corrected_score`.
    Source: arXiv 2601.02036 (GDRO): 6 of 16 pictures a prompt, temperature 0.05, strength 12 and gamma 0.5 (OCR), 6 and 1 (GenEval).
    """

    strength: Positive = 12.0
    temperature: Positive = 0.05
    gamma: NotNegative = 0.5
    ranking: Literal["top", "full"] = "full"

    def credit(self, collected: Collected, table: RewardTable, advantage: Advantage) -> None:
        super().credit(collected, table, advantage)
        assert collected.advantage_BS is not None, "set by the base"
        collected.advantage_BS = table.total[:, None].expand(-1, collected.plan.trained)
        collected.keep(ranked(collected, table))

    def matching(self, v: torch.Tensor, velocity: Velocity, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        now = error(v, batch)
        implicit = -self.strength * (now - error(velocity(batch.x, batch.s, self.reference), batch))
        entropy, imitation, right = [], [], []
        for group in batch.group.unique():
            rows = (batch.group == group).nonzero().flatten()
            rows = rows[batch.advantage[rows].argsort(descending=True, stable=True)]
            entropy.append(self.cross_entropy(implicit[rows], batch.advantage[rows]))
            imitation.append(now[rows[0]])
            right.append((implicit[rows[0]] > implicit[rows[-1]]).float())
        policy = torch.stack(entropy).mean() + self.gamma * torch.stack(imitation).mean()
        return policy, {"loss/ranking": torch.stack(entropy).mean().item(), "preferred": torch.stack(right).mean().item()}

    def cross_entropy(self, implicit: torch.Tensor, reward: torch.Tensor) -> torch.Tensor:
        """Of implicit rewards [k] to rewards [k], both sorted by reward, the best first."""
        last = 1 if self.ranking == "top" else len(reward) - 1
        parts = [(implicit[i:].logsumexp(0) - (wanted(reward[i:], self.temperature) * implicit[i:]).sum()) for i in range(last)]
        return torch.stack(parts).sum()


def wanted(reward: torch.Tensor, temperature: float) -> torch.Tensor:
    """[k] the softmax of rewards [k], which does not mind how large they are."""
    return torch.softmax((reward - reward.max()) / temperature, 0)
