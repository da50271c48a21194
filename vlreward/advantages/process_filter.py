"""Learn from the rollouts whose steps and outcome agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch

from vlreward.advantages.base import Advantage, Offsets, column
from vlreward.advantages.group import GroupAdvantage
from vlreward.config import Bound, Count, NotNegative
from vlreward.registry import register
from vlreward.types import RewardTable


@register("process_filter")
@dataclass(kw_only=True)
class ProcessFilter(Advantage):
    """`of` among the `keep` rollouts of each group whose process and outcome agree best; 0 for the others.

    Kept are right ones with the highest score of the term `steps` and wrong ones with the lowest (`wrong: lowest`) or just any (`any`), as
    many of each as there are, up to half. Right is a total of at least `right_at`; give the term `steps` weight 0, for it only chooses.
    `penalty` is taken off the process score of a right rollout with one step, or with `long` steps or more.

    Source: PROF, arXiv 2509.03403 (mean over steps; `any` is its PROF-POS, `lowest` its PROF-BOTH).

    Use it with a process judge too weak to be optimised, and sample more rollouts than are kept. Trap: with `keep` as large as the group
    nothing is filtered.
    """

    steps: str
    keep: Annotated[int, Bound(2)]
    of: Advantage = field(default_factory=GroupAdvantage)
    right_at: float = 1.0
    wrong: Literal["lowest", "any"] = "lowest"
    penalty: NotNegative = 0.0
    long: Count | None = None

    def __call__(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        return self.of(table.masked(self.kept(table, group_B)), group_B)

    @property
    def per_token(self) -> bool:
        return self.of.per_token

    def tokens(self, table: RewardTable, group_B: torch.Tensor, offsets: Sequence[Offsets]) -> torch.Tensor | None:
        return self.of.tokens(table.masked(self.kept(table, group_B)), group_B, offsets)

    def kept(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        """[B] bool: the rows to learn from."""
        total, process = table.total.to(torch.float64), column(table, self.steps, "steps").clone()
        usable = ~total.isnan() & ~process.isnan()
        right = usable & (total >= self.right_at)
        for row, segments in enumerate(table.outputs[self.steps].segments):
            if right[row] and (len(segments) == 1 or (self.long is not None and len(segments) >= self.long)):
                process[row] -= self.penalty
        kept = torch.zeros(len(total), dtype=torch.bool)
        for group in group_B.unique():
            rights = (right & (group_B == group)).nonzero().flatten().tolist()
            wrongs = (usable & ~right & (group_B == group)).nonzero().flatten().tolist()
            rights.sort(key=lambda row: -process[row].item())
            if self.wrong == "lowest":
                wrongs.sort(key=lambda row: process[row].item())
            half = min(len(rights), max((self.keep + 1) // 2, self.keep - len(wrongs)))
            kept[rights[:half] + wrongs[: self.keep - half]] = True
        return kept
