"""A user's own comparisons as a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlreward.bench.base import Benchmark, unlike
from vlreward.bench.figures import Figure
from vlreward.bench.judged import Judged, pairs_of
from vlreward.bench.metrics import accuracy, best_of
from vlreward.bench.ties import accuracy_with_ties
from vlreward.data.comparisons import Comparisons
from vlreward.data.source import BadRow, named
from vlreward.registry import register
from vlreward.types import Comparison


@register("comparisons")
@dataclass(kw_only=True)
class OwnComparisons(Benchmark):
    """Any source of comparisons, such as your own file: `{kind: comparisons, of: {path: pairs.jsonl}}`. Accuracy, macro accuracy over
    subsets, with ties where there are some, and the share of items whose best attempt is found where there are more than two.

    `vlreward list comparisons` describes the sources; each aspect gets an accuracy of its own.
    """

    of: Comparisons
    path: Path = Path()

    def __iter__(self) -> Iterator[Comparison | BadRow]:
        seen: set[str] = set()
        for found in self.of:
            yield unlike(found, seen)

    @property
    def place(self) -> str:
        return named(self.of)

    def figures(self, judged: Sequence[Judged]) -> dict[str, Figure]:
        pairs = pairs_of(judged)
        found: dict[str, Figure] = {"accuracy": accuracy(pairs)}
        if len({one.item.subset for one in judged}) > 1:
            found["macro accuracy"] = accuracy(pairs, macro=True)
        if (pairs.wanted == 0).any():
            found["with ties"] = accuracy_with_ties(pairs)
        if any(len(one.scores) > 2 for one in judged):
            found["best of n"] = best_of(judged)
        for aspect in dict.fromkeys(name for one in judged for name in one.item.aspects):
            known = [one.by(aspect) for one in judged if aspect in one.item.aspects]
            found[f"{aspect} accuracy"] = accuracy(pairs_of(known))
        return found
