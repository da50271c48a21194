"""MJ-Bench-Video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlreward.bench.base import Benchmark, get, made
from vlreward.bench.figures import Figure, Related
from vlreward.bench.judged import Judged, Pairs, pairs_of
from vlreward.bench.metrics import accuracy, f1_of_both
from vlreward.bench.reading import Row
from vlreward.bench.ties import accuracy_with_ties
from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.types import Comparison

ANSWERS = {"Video 1 better": (1.0, 0.0), "Video 2 better": (0.0, 1.0), "Same": (0.5, 0.5)}
UNDECIDED = "Hard to judge"


@register("mj_bench_video")
@dataclass(kw_only=True)
class MJBenchVideo(Benchmark):
    """Two clips made for one prompt, compared overall and in five aspects (alignment, safety, fineness, coherence and consistency, bias).
    Accuracy without and with ties, and macro F1 of the better clip.

    Fields of `test.json`: `caption, video_0_path, video_1_path, overall_preference` and `category_preference {aspect: ...}`, each 'Video 1
    better' (video_0), 'Video 2 better', 'Same' or 'Hard to judge', `discard`. Discarded rows and undecided ones are left out. A critic's
    part of an aspect's name judges it, its score else. The 28 criteria rate single clips and are not read here.

    Source: MJ-VIDEO, arXiv 2502.01719 (aiming-lab/MJ-Video).
    """

    headline = "without ties"
    files = ("test.json",)

    def comparison(self, row: Row, place: str) -> Comparison | None:
        overall = get(row, "overall_preference", str)
        if row.get("discard") or overall == UNDECIDED:
            return None
        clips = [self.visual(get(row, name, str), name) for name in ("video_0_path", "video_1_path")]
        aspects = {str(name): _answer(value) for name, value in (row.get("category_preference") or {}).items() if value != UNDECIDED}
        rollouts = made(place, get(row, "caption", str), clips)
        return Comparison(id=place, rollouts=rollouts, scores=_answer(overall), aspects=aspects)

    def figures(self, judged: Sequence[Judged]) -> dict[str, Figure]:
        pairs = pairs_of(judged)
        found: dict[str, Figure] = {"without ties": accuracy(pairs), "with ties": accuracy_with_ties(pairs), "macro f1": macro_f1(pairs)}
        for aspect in dict.fromkeys(name for one in judged for name in one.item.aspects):
            known = [one.by(aspect) for one in judged if aspect in one.item.aspects]
            found[f"{aspect} without ties"] = accuracy(pairs_of(known))
        return found


def macro_f1(pairs: Pairs) -> Related:
    """Mean of the F1 of 'the first is better' and 'the second is better' over decided pairs; a tie of the critic is neither."""

    decided = pairs.decided
    said = np.sign(decided.difference).tolist()
    return Related(units=decided.units, x=said, y=decided.wanted.tolist(), statistic=lambda x, y: f1_of_both(x, y).mean().item())


def _answer(value: str) -> tuple[float, float]:
    if value not in ANSWERS:
        raise DataError(f"a preference is {value!r}, expected one of {', '.join(ANSWERS)}")
    return ANSWERS[value]
