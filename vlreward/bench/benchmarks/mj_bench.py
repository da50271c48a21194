"""MJ-Bench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlreward.bench.base import Benchmark, get, made
from vlreward.bench.figures import Figure
from vlreward.bench.judged import Judged, pairs_of
from vlreward.bench.metrics import accuracy
from vlreward.bench.reading import Row
from vlreward.bench.ties import accuracy_with_ties
from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.types import Comparison


@register("mj_bench")
@dataclass(kw_only=True)
class MJBench(Benchmark):
    """Two pictures made for one prompt; one is wrong in alignment, safety or quality (the splits, which are subsets). Accuracy with and
    without ties.

    Fields: `caption` (or `info`), `image0, image1, label` (0 or 1: which is better; 0.5 or 'tie'; or `label_0`), a table or a split for
    each perspective. Its bias perspective, which compares groups of people, is `mj_bench_bias`.

    Source: MJ-Bench, arXiv 2407.04842 (MJ-Bench/MJ-Bench).
    """

    headline = "without ties"
    files = ("*.json", "*.jsonl")

    def comparison(self, row: Row, place: str) -> Comparison:
        prompt = get(row, "caption" if row.get("caption") else "info", str)
        pictures = [self.visual(get(row, name, object), name) for name in ("image0", "image1")]
        return Comparison(id=place, rollouts=made(place, prompt, pictures), scores=_label(row), subset=str(row.get("split", "")))

    def figures(self, judged: Sequence[Judged]) -> dict[str, Figure]:
        pairs = pairs_of(judged)
        return {"without ties": accuracy(pairs), "with ties": accuracy_with_ties(pairs), "macro accuracy": accuracy(pairs, macro=True)}


def _label(row: Row) -> tuple[float, float]:
    if row.get("label_0") is not None:
        first = get(row, "label_0", float)
        return first, 1 - first
    label = str(row.get("label"))
    known = {"0": (1.0, 0.0), "1": (0.0, 1.0), "0.5": (0.5, 0.5), "tie": (0.5, 0.5)}
    if label not in known:
        raise DataError(f"label is {label!r}, expected 0, 1 or 'tie'")
    return known[label]
