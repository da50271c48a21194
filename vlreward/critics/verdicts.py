"""What a critic says of rollouts, and the comparisons it learns from laid side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vlreward.run.launch import Launch
from vlreward.types import Comparison, Rollout


@dataclass(kw_only=True)
class Duels:
    """Readings of two rollouts each: `logit` [D] of the first being the better one, and their numbers [D]."""

    logit: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor


@dataclass(kw_only=True)
class Verdicts:
    """What a critic says of B rollouts, float32, with gradient while it learns. What a head does not give stays empty."""

    scores: torch.Tensor
    """[B], in the scale that losses work on: mostly log odds."""
    parts: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """name -> [B]: aspects, deviations, what else the head makes of a rollout."""
    states: torch.Tensor | None = None
    """[B,D] of the trunk, where the head reads each rollout at one place."""
    levels: torch.Tensor | None = None
    """[B,K] log-probabilities of K levels, the lowest first."""
    steps: Sequence[torch.Tensor] = ()
    """For each rollout [S], log odds of each step being right."""
    spans: Sequence[Sequence[tuple[int, int]]] = ()
    """Where those steps stand in its text."""
    duels: Duels | None = None


@dataclass(kw_only=True)
class Batch:
    """Comparisons side by side: their B rollouts, and the P pairs among the attempts at one sample of which one is better."""

    comparisons: Sequence[Comparison]
    rollouts: list[Rollout]
    group: torch.Tensor
    """[B]"""
    truth: torch.Tensor
    """[B] float32, the scores that were given"""
    launch: Launch | None = None
    """Who reads it together; None is this process alone."""

    @classmethod
    def of(cls, comparisons: Sequence[Comparison], device: str | torch.device = "cpu", launch: Launch | None = None) -> Batch:
        """Lay them side by side."""
        rollouts = [replace(rollout, group=number) for number, comparison in enumerate(comparisons) for rollout in comparison.rollouts]
        group = [number for number, comparison in enumerate(comparisons) for _ in comparison.rollouts]
        truth = [score for comparison in comparisons for score in comparison.scores]
        return cls(
            comparisons=comparisons, rollouts=rollouts, group=torch.tensor(group, device=device),
            truth=torch.tensor(truth, device=device), launch=launch,
        )  # fmt: skip

    @property
    def aspects(self) -> dict[str, torch.Tensor]:
        """name -> [B]; NaN where a comparison has no such aspect."""
        names = dict.fromkeys(name for comparison in self.comparisons for name in comparison.aspects)
        nothing = float("nan")
        rows = {n: [v for c in self.comparisons for v in c.aspects.get(n, (nothing,) * len(c.rollouts))] for n in names}
        return {name: torch.tensor(values, device=self.truth.device) for name, values in rows.items()}

    @property
    def lengths(self) -> torch.Tensor:
        """[B] characters of the texts."""
        return torch.tensor([float(len(rollout.text or "")) for rollout in self.rollouts], device=self.truth.device)

    def facts(self, name: str) -> list[Any]:
        """One a rollout: what the comparisons' facts of that name hold, None where they hold nothing."""
        return [value for c in self.comparisons for value in c.facts.get(name, (None,) * len(c.rollouts))]

    def pairs(self, values: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows [P] of the better and of the worse one of each pair, by the given scores or by other `values` [B]."""
        values = self.truth if values is None else values
        better, worse = ((self.group[:, None] == self.group) & (values[:, None] > values)).nonzero().T
        return better, worse

    def ties(self, values: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of the pairs that are equally good, each pair once."""
        values = self.truth if values is None else values
        equal = (self.group[:, None] == self.group) & (values[:, None] == values)
        first, second = equal.triu(1).nonzero().T
        return first, second
