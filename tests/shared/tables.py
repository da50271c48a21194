"""Reward tables for tests of advantages."""

from __future__ import annotations

import torch

from vlreward.types import RewardOutput, RewardTable, Segment

NAN = float("nan")


def table(weights=None, broken=(), segments=None, **columns: list[float]) -> RewardTable:
    """A table of named columns. The first one's judge broke on the rows in `broken`; `segments`: name -> rows of (start, end, reward)."""
    scores = {name: torch.tensor(column, dtype=torch.float64) for name, column in columns.items()}
    outputs = {
        name: RewardOutput(
            scores=column,
            errors=["broke" if row in broken and k == 0 else None for row in range(len(column))],
            segments=[[spanned(*part) for part in row] for row in (segments or {}).get(name, [[] for _ in column])],
        )
        for k, (name, column) in enumerate(scores.items())
    }
    weight = torch.tensor(weights or [1.0] * len(columns), dtype=torch.float64)
    return RewardTable(names=tuple(columns), weights=weight, scores=torch.stack(list(scores.values()), 1), outputs=outputs)


def spanned(start: int, end: int, reward: float, state: str = "") -> Segment:
    return Segment(start=start, end=end, reward=reward, state=state)


def groups(*ids: int) -> torch.Tensor:
    return torch.tensor(ids, dtype=torch.int64)


def letters(*counts: int) -> list[list[tuple[int, int]]]:
    """Offsets of texts whose tokens are single characters, with an end token that has none."""
    return [[*((i, i + 1) for i in range(count)), (count, count)] for count in counts]
