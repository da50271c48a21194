"""From a reward table to advantages; the VLM trainer and the flow trainer use the same parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from vlreward.errors import ConfigError
from vlreward.types import RewardTable


@dataclass(kw_only=True)
class Advantage:
    """Base of all advantages."""

    family: ClassVar[str] = "advantages"

    def __call__(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        """[B] float64. `group_B` is int64; rows whose total is NaN (nothing applies, or a judge broke) get 0 and touch no statistics."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")

    @property
    def per_token(self) -> bool:
        """Whether `tokens` tells the tokens of a rollout apart; where not, nobody need work out their offsets."""
        return False

    def tokens(self, table: RewardTable, group_B: torch.Tensor, offsets: Sequence[Offsets]) -> torch.Tensor | None:
        """[B,T] float64, or None where every token gets its rollout's advantage, as here.

        `offsets[b]` holds a pair for each token that rollout b wrote: the characters of its text that the token begins and ends at, and
        twice the same place for one without a character, such as the end token. T is the longest; beyond a rollout's tokens stands 0.
        """
        return None

    @property
    def reads(self) -> tuple[str, ...]:
        """What it asks of a model for each token, by its name in `RewardTable.by_token`; by default what the advantage in `of` asks."""
        of = getattr(self, "of", None)
        return of.reads if isinstance(of, Advantage) else ()

    def learned(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor | None:
        """[B,T] bool: the tokens that the loss is about, or None for all of them; by default what the advantage in `of` says."""
        of = getattr(self, "of", None)
        return of.learned(table, group_B) if isinstance(of, Advantage) else None


Offsets = Sequence[tuple[int, int]]
"""Where each token of a rollout begins and ends, in characters of its text."""


def group_sum(value_B: torch.Tensor, group_B: torch.Tensor) -> torch.Tensor:
    """[B] float64: the sum over each row's group, laid out per row."""
    assert group_B.dtype == torch.int64, f"group ids are int64, not {group_B.dtype}"
    _, index = torch.unique(group_B, return_inverse=True)
    size = int(index.max()) + 1 if len(index) else 0
    return torch.zeros(size, dtype=torch.float64).index_add_(0, index, value_B.to(torch.float64))[index]


def group_statistics(value_B: torch.Tensor, group_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean, standard deviation (unbiased) and spread (max - min) of each row's group, laid out per row: three [B] float64.

    NaN values are left out; a group with fewer than two values has deviation and spread 0.
    """
    assert group_B.dtype == torch.int64, f"group ids are int64, not {group_B.dtype}"
    value, valid = value_B.to(torch.float64).nan_to_num(), ~value_B.isnan()
    _, index = torch.unique(group_B, return_inverse=True)
    size = int(index.max()) + 1 if len(index) else 0
    count = group_sum(valid, group_B)
    mean = group_sum(value * valid, group_B) / count.clamp(min=1)
    deviation = (group_sum(((value - mean) * valid) ** 2, group_B) / (count - 1).clamp(min=1)).sqrt()
    high = torch.full((size,), -float("inf"), dtype=torch.float64).scatter_reduce(
        0, index, value.masked_fill(~valid, -float("inf")), "amax"
    )
    low = torch.full((size,), float("inf"), dtype=torch.float64).scatter_reduce(0, index, value.masked_fill(~valid, float("inf")), "amin")
    spread = torch.where(count > 1, (high - low)[index], 0.0)
    return mean, deviation * (count > 1), spread


def column(table: RewardTable, name: str, key: str) -> torch.Tensor:
    """[B] float64: the scores of the term called `name`. Raises ConfigError, naming the advantage's key, where there is none."""
    if name not in table.names:
        raise ConfigError(f"no term of `rewards` is called {name!r}; there are {', '.join(table.names)}", f"advantage.{key}")
    return table.scores[:, table.names.index(name)].to(torch.float64)


def dead_fraction(table: RewardTable, group_B: torch.Tensor) -> float:
    """Share of groups in which all totals are equal, so that nothing can be learned from them."""
    _, _, spread = group_statistics(table.total, group_B)
    per_group = {int(g): float(s) for g, s in zip(group_B, spread, strict=True)}
    return sum(s <= DEAD for s in per_group.values()) / max(1, len(per_group))


DEAD = 1e-6
"""A group whose totals differ by no more than this is constant; float noise must not be divided by its own deviation."""
