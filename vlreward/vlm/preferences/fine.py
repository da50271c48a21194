"""Which parts of two answers a preference is about.

Legend: B answers (first the chosen ones, then the rejected), T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import ClassVar

import torch
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence

from vlreward.advantages.base import Offsets
from vlreward.advantages.segments import at_tokens
from vlreward.config import NotNegative, Positive
from vlreward.errors import ConfigError
from vlreward.registry import register
from vlreward.vlm.preferences.pairs import Answer


@dataclass(kw_only=True)
class Fine:
    """Base of what makes a preference finer than two whole answers."""

    family: ClassVar[str] = "fine"
    labels: ClassVar[bool] = False
    """Whether it goes by the segments of a reward, named by the field `of`."""

    def weights(self, chosen: Sequence[int], rejected: Sequence[int]) -> tuple[list[float], list[float]]:
        """What each token's log-probability counts in the loss; 1 is as in DPO."""
        return [1.0] * len(chosen), [1.0] * len(rejected)

    def loss(self, ratio_BT: torch.Tensor, answers: Sequence[Answer], offsets: Sequence[Offsets], beta: float) -> torch.Tensor | None:
        """A loss in place of TRL's, from the log-ratios of policy and reference; None leaves TRL's."""
        return None


@register("difference")
@dataclass(kw_only=True)
class Difference(Fine):
    """Tokens that only one of the two answers has weigh `changed`, those in both `shared`.

    What is in both is found by the longest common blocks of tokens, as difflib finds them. With `mean` an answer's weighted sum is
    divided by the sum of its weights.

    Source: dense DPO of RLHF-V, arXiv 2312.00849, equation 4 (there `shared: 1`, `changed: 5`, `mean: true`); `shared: 0` leaves the
    tokens that differ alone.
    """

    shared: NotNegative = 0.0
    changed: Positive = 1.0
    mean: bool = False

    def weights(self, chosen: Sequence[int], rejected: Sequence[int]) -> tuple[list[float], list[float]]:
        sides = [self.changed] * len(chosen), [self.changed] * len(rejected)
        for block in SequenceMatcher(None, chosen, rejected, autojunk=False).get_matching_blocks():
            for side, start in zip(sides, (block.a, block.b), strict=True):
                side[start : start + block.size] = [self.shared] * block.size
        if not self.mean:
            return sides
        first, second = ([weight / (sum(side) or 1.0) for weight in side] for side in sides)
        return first, second


@register("labelled")
@dataclass(kw_only=True)
class Labelled(Fine):
    """Every labelled segment is a case of its own: -log sigmoid(beta * r) if it is good, -log sigmoid(-beta * r) if it is bad.

    r is the log-ratio of policy and reference, summed over the segment's tokens. A segment whose reward reaches `good` is good, one
    below `bad` is bad, one between them and all text outside of segments do not count. Both answers of a pair take part alike; the mean
    is over segments.

    Source: FDPO of M-HalDetect, arXiv 2308.06394, section 4.
    """

    of: str | None = None
    """The term of `rewards` whose segments count; none where the pairs are given with theirs."""
    good: float = 0.5
    bad: float = 0.5
    labels = True

    def __post_init__(self):
        if self.bad > self.good:
            raise ConfigError(f"is {self.bad:g}, expected at most `good`, which is {self.good:g}", "bad")

    def loss(self, ratio_BT: torch.Tensor, answers: Sequence[Answer], offsets: Sequence[Offsets], beta: float) -> torch.Tensor | None:
        cases = []
        for ratio_T, answer, places in zip(ratio_BT, answers, offsets, strict=True):
            for part in answer.segments:
                if self.bad <= part.reward < self.good:
                    continue
                inside_T = at_tokens([[part]], [torch.ones(1, dtype=torch.float64)], [places])[0].to(ratio_T)
                margin = (ratio_T[: len(inside_T)] * inside_T).sum()
                cases.append(margin if part.reward >= self.good else -margin)
        return -logsigmoid(beta * torch.stack(cases)).mean() if cases else ratio_BT.sum() * 0


def padded(rows: Sequence[Sequence[float]]) -> torch.Tensor:
    """[B,T] float32, 0 beyond a row's end."""
    return pad_sequence([torch.tensor(row, dtype=torch.float32) for row in rows], batch_first=True)
