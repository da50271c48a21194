"""Process rewards that nobody labelled: what a reward model trained on outcomes says of each token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vlreward.advantages.base import DEAD, Advantage, Offsets, group_sum
from vlreward.advantages.leave_one_out import LeaveOneOut
from vlreward.config import Fraction, NotNegative, Positive
from vlreward.registry import register
from vlreward.types import RewardTable

IMPLICIT = "implicit"
"""Name of the implicit rewards among `RewardTable.by_token`."""


@register("implicit_process")
@dataclass(kw_only=True)
class ImplicitProcess(Advantage):
    """Each token gets its rollout's outcome and the implicit rewards of itself and all later tokens, less those of the group's others.

    With r_s the implicit reward of token s (the `implicit:` block), r_o the total, and rollout i of n with a total in its group:
    A_t = weight * sum_{s>=t} gamma^(s-t) * (r_s - mean over j != i of mean_u r_u(j)) + r_o - mean over j != i of r_o(j).
    Before, r is divided by the batch's largest |sum_{s>=t} r_s|; after, A by its deviation over the batch's tokens, and clipped.

    Source: PRIME, arXiv 2502.01456, equation 5 and its published code (`weight` and `gamma` 1). That code also takes the batch's mean off
    A, which would teach something from groups in which all is equal; here it stays.

    Use it where answers have steps and only outcomes are judged. Traps: the baseline is taken off at each token, so long rollouts gain or
    lose by their length; before the reward model has learned anything the process part is noise of full size (raise `implicit.lr`).
    """

    weight: NotNegative = 1.0
    gamma: Fraction = 1.0
    clip: Positive = 5.0

    def __call__(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        return LeaveOneOut(clip=float("inf"))(table, group_B).clamp(-self.clip, self.clip)

    @property
    def per_token(self) -> bool:
        return True

    @property
    def reads(self) -> tuple[str, ...]:
        return (IMPLICIT,)

    def tokens(self, table: RewardTable, group_B: torch.Tensor, offsets: Sequence[Offsets]) -> torch.Tensor:
        reward_BT = table.by_token[IMPLICIT].to(torch.float64)
        real_BT = ~reward_BT.isnan() & ~table.total.isnan()[:, None]
        reward_BT = torch.where(real_BT, reward_BT, 0.0)
        largest = from_here_on(reward_BT, 1.0).abs().amax() if reward_BT.numel() else reward_BT.sum()
        if largest > DEAD:
            process_BT = self._process(reward_BT / largest, real_BT, group_B)
        else:
            process_BT = torch.zeros_like(reward_BT)
        outcome_B = LeaveOneOut(clip=float("inf"))(table, group_B)
        advantage_BT = torch.where(real_BT, self.weight * process_BT + outcome_B[:, None], 0.0)
        found = advantage_BT[real_BT]
        deviation = found.std() if len(found) > 1 else torch.zeros(())
        return (advantage_BT / deviation.clamp(min=DEAD)).clamp(-self.clip, self.clip)

    def _process(self, reward_BT: torch.Tensor, real_BT: torch.Tensor, group_B: torch.Tensor) -> torch.Tensor:
        """[B,T] what is left of each token's return once the others' mean reward is taken off at each step."""
        judged_B = real_BT.any(1)
        mean_B = reward_BT.sum(1) / real_BT.sum(1).clamp(min=1)
        others_B = group_sum(judged_B, group_B) - 1
        baseline_B = (group_sum(mean_B * judged_B, group_B) - mean_B) / others_B.clamp(min=1)
        centred_BT = torch.where(real_BT & (others_B > 0)[:, None], reward_BT - baseline_B[:, None], 0.0)
        return from_here_on(centred_BT, self.gamma)


def from_here_on(reward_BT: torch.Tensor, gamma: float) -> torch.Tensor:
    """[B,T]: each token's reward plus gamma times what the next one has, from the end on."""
    later, columns = torch.zeros(len(reward_BT), dtype=reward_BT.dtype), []
    for column in reward_BT.unbind(1)[::-1]:
        later = column + gamma * later
        columns.append(later)
    return torch.stack(columns[::-1], 1) if columns else reward_BT
