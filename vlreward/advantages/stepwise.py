"""Advantages of the steps of a rollout: what all of them share, as the base, and rewards compared within the group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from vlreward.advantages.base import DEAD, Advantage, Offsets, column, group_statistics
from vlreward.advantages.group import GroupAdvantage
from vlreward.advantages.segments import at_tokens, ordered, real_tokens
from vlreward.config import Positive
from vlreward.registry import register
from vlreward.types import RewardTable, Segment


@dataclass(kw_only=True)
class Stepwise(Advantage):
    """Base of advantages that tell the steps of a rollout apart: the segments of the terms named in `steps`.

    `of` compares whole rollouts by the other terms, and each token gets that advantage plus, for each term in `steps`, its weight times
    the value of the token's step. Called without tokens it gives what `of` does, which is 0 where there are no other terms.
    """

    steps: tuple[str, ...]
    of: Advantage = field(default_factory=GroupAdvantage)
    clip: Positive = 5.0

    def __call__(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        for name in self.steps:
            column(table, name, "steps")
        return self.of(table.without(self.steps), group_B)

    @property
    def per_token(self) -> bool:
        return True

    def tokens(self, table: RewardTable, group_B: torch.Tensor, offsets: Sequence[Offsets]) -> torch.Tensor:
        advantage_BT = self(table, group_B)[:, None] * real_tokens(offsets)
        for name in self.steps:
            segments = ordered(table, name)
            values = self.values(segments, group_B)
            advantage_BT += table.weights[table.names.index(name)] * at_tokens(segments, values, offsets, self.following)
        return advantage_BT.clamp(-self.clip, self.clip)

    @property
    def following(self) -> bool:
        """Whether a token also gets the values of the steps after its own."""
        return False

    def values(self, segments: Sequence[Sequence[Segment]], group_B: torch.Tensor) -> list[torch.Tensor]:
        """[S] float64 a rollout: what each of its steps, in the order of the text, adds to its tokens' advantage."""
        raise NotImplementedError(f"{type(self).__name__} must define values")


def compared(reward_N: torch.Tensor, among_N: torch.Tensor, std: bool, eps: float) -> torch.Tensor:
    """[N] float64: rewards less the mean of those they stand among, over the deviation if `std`; exactly 0 where these are equal."""
    mean, deviation, spread = group_statistics(reward_N, among_N)
    scale = deviation + eps if std else torch.ones_like(mean)
    return torch.where(spread > DEAD, (reward_N - mean) / scale, 0.0)


@register("segment_credit")
@dataclass(kw_only=True)
class SegmentCredit(Stepwise):
    """Each token gets its rollout's advantage plus that of its own segment among all segments of the group; clipped.

    `form: own` adds (segment reward - mean) / deviation over the segments of all the group's rollouts; `following` adds these values of
    the token's segment and of all later ones. The terms in `steps` count by segment, by their weight, and leave the rollout's total.

    Source: dense hallucination rewards as in FGAIF (arXiv 2404.05046), compared within the group; `following` is GRPO with process
    supervision, DeepSeekMath (arXiv 2402.03300), section 4.1.3. LOVE-R1's reward for each zoom step is `own`.

    Use it with sentence or step judges. Traps: `following` pays for more steps where steps are mostly above the mean (`process` with
    `form: minimum` does not); segments must not overlap within one term; a mean over segments favours rollouts with many of them.
    """

    form: Literal["own", "following"] = "own"
    std: Literal["group", "none"] = "group"
    eps: Positive = 1e-4

    @property
    def following(self) -> bool:
        return self.form == "following"

    def values(self, segments: Sequence[Sequence[Segment]], group_B: torch.Tensor) -> list[torch.Tensor]:
        counts = [len(parts) for parts in segments]
        reward_N = torch.tensor([part.reward for parts in segments for part in parts], dtype=torch.float64)
        value_N = compared(reward_N, group_B.repeat_interleave(torch.tensor(counts)), self.std == "group", self.eps)
        return list(value_N.split(counts))


@register("step_groups")
@dataclass(kw_only=True)
class StepGroups(Stepwise):
    """Each token gets its rollout's advantage plus that of its step among the group's steps taken in the same state; clipped.

    A step's return is its reward plus `gamma` times the next step's return, and steps are compared where their segments' `state` is the
    same. A step alone in its state gets 0.

    Source: GiGPO, arXiv 2505.10978, equations 5 to 8, with the term's weight as omega. With `gamma: 0` and the rewards of `tree_steps`
    it is TreeRPO (arXiv 2506.05183) on siblings of a tree; a node then counts once for each rollout through it.

    Use it with several rollouts through the same states: tools, environments, tree sampling. Trap: where no two rollouts ever meet, all
    of it is 0, and only `of` is left (watch how many steps share a state).
    """

    gamma: float = 0.95
    std: Literal["group", "none"] = "none"
    eps: Positive = 1e-4

    def values(self, segments: Sequence[Sequence[Segment]], group_B: torch.Tensor) -> list[torch.Tensor]:
        numbers: dict[tuple[int, str], int] = {}
        returns, among = [], []
        for group, parts in zip(group_B.tolist(), segments, strict=True):
            later = 0.0
            backwards = [later := part.reward + self.gamma * later for part in reversed(parts)]
            returns += backwards[::-1]
            among += [numbers.setdefault((group, part.state), len(numbers)) for part in parts]
        value_N = compared(
            torch.tensor(returns, dtype=torch.float64), torch.tensor(among, dtype=torch.int64), self.std == "group", self.eps
        )
        return list(value_N.split([len(parts) for parts in segments]))
