"""ViLBench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlreward.bench.base import Benchmark, get, written
from vlreward.bench.figures import Figure
from vlreward.bench.judged import Judged, pairs_of
from vlreward.bench.metrics import accuracy, best_of
from vlreward.bench.reading import Row
from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.types import Comparison


@register("vil_bench")
@dataclass(kw_only=True)
class ViLBench(Benchmark):
    """The best of several answers to a question about a picture: the share of questions whose selected answer is right (600 items).

    Fields: `question, responses[], correct[]` (1 or 0, one a response), `image`, `id?`, `subset?`; its paper and page name none, so say in
    `columns` how your files call them. Questions with none or only right answers are left out of `accuracy`, as nothing is chosen in them.

    Source: ViLBench, arXiv 2503.20271 (UCSC-VLAA/ViLBench). Published: GPT-4o with reasoning 27.3 over all items, right or not.
    """

    headline = "best of n"
    files = ("*.jsonl", "*.json")

    def comparison(self, row: Row, place: str) -> Comparison:
        name, answers, right = str(row.get("id", place)), get(row, "responses", list), get(row, "correct", list)
        if len(answers) != len(right):
            raise DataError(f"correct has {len(right)} entries for {len(answers)} of responses")
        rollouts = written(name, get(row, "question", str), answers, [self.visual(get(row, "image", object), "image")])
        return Comparison(id=name, rollouts=rollouts, scores=tuple(map(float, right)), subset=str(row.get("subset", "")))

    def figures(self, judged: Sequence[Judged]) -> dict[str, Figure]:
        solvable = [one for one in judged if max(one.item.wanted) > 0]
        unsolved = [one for one in judged if max(one.item.wanted) <= 0]
        chosen, none = best_of(solvable), [one.item.id for one in unsolved]
        whole = type(chosen)(units=[*chosen.units, *none], won=[*chosen.won, *(0.0 for _ in none)])
        return {"best of n": whole, "best of n, where one is right": chosen, "accuracy": accuracy(pairs_of(judged))}
