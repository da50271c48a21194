"""VC-RewardBench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlreward.bench.base import Benchmark, get, made
from vlreward.bench.correlation import kendall, pearson
from vlreward.bench.figures import Counted, Figure
from vlreward.bench.judged import Judged
from vlreward.bench.reading import Row
from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.fault_matching import PARTS
from vlreward.types import Comparison

FAULTS = {
    "table": ("layout_error", "text_error", "numeric_error"),
    "chart": ("structure_error", "data_error", "text_error", "style_error"),
    "svg": ("structure_error", "shape_error", "style_error", "text_symbol_error"),
}
"""Category -> the kinds of fault that count in it, as in the benchmark's code."""


@register("vc_reward_bench")
@dataclass(kw_only=True)
class VCRewardBench(Benchmark):
    """Charts, tables and drawings rendered from code beside what they should look like, with the faults that people found (1,335 pictures).
    Pearson's correlation of a critic's scores with the severity of the faults, the other way round: 1 where worse pictures score lower.

    `severity` over all pictures (and `chart severity`, `table severity`, `svg severity`), where a picture's severity is the sum over its
    faults, 1 to 3 each; a fault without one counts 0, one of a kind that its category does not know is left out, as published. Scores of
    `judge_discrepancy` fall with the listed severities in a straight line down to 50. With a `matcher` in it, which is a language model as
    in the benchmark, `hard f1` and `soft f1` of its lists against people's over all pictures: a fault that is only hinted at is neither
    right nor wrong in the hard one, and half right in the soft one.

    Fields of `VC-RewardBench.jsonl`: `gt_img_path, pred_img_path, category` (chart, table or svg), `human_errors [{type, severity,
    description}]`, `id?`.

    Source: Visual-ERM, arXiv 2603.13224 (internlm/VC-RewardBench; fields and figures as in github.com/InternLM/Visual-ERM).
    """

    headline = "severity"
    files = ("VC-RewardBench.jsonl",)
    pointwise = True

    def comparison(self, row: Row, place: str) -> Comparison:
        category = get(row, "category", str)
        if category not in FAULTS:
            raise DataError(f"category is {category!r}, expected one of {', '.join(FAULTS)}")
        faults = row.get("human_errors") or []
        if not isinstance(faults, list) or not all(isinstance(fault, dict) for fault in faults):
            raise DataError("human_errors is no list of faults")
        wanted, drawn = (self.visual(get(row, name, object), name) for name in ("gt_img_path", "pred_img_path"))
        name = str(row.get("id", place))
        known = [fault for fault in faults if fault.get("type") in FAULTS[category]]
        target = {"faults": known}
        rollouts = made(name, "Make a picture that looks like the given one.", [drawn], wanted, target)
        return Comparison(id=name, rollouts=rollouts, scores=(-sum(_severity(fault.get("severity")) for fault in known),), subset=category)

    def figures(self, judged: Sequence[Judged]) -> dict[str, Figure]:
        found: dict[str, Figure] = {"severity": pearson(judged)}
        for category in FAULTS:
            known = [one for one in judged if one.item.subset == category]
            found |= {f"{category} severity": pearson(known)} if known else {}
        matched = [one for one in judged if set(PARTS) <= one.parts.keys()]
        found |= {"hard f1": _f1(matched, 0.0), "soft f1": _f1(matched, 0.5)} if matched else {}
        return found | {"kendall b": kendall(judged, "b")}


def _f1(judged: Sequence[Judged], hinted: float) -> Counted:
    """F1 of listed faults over all pictures, where one that is only hinted at counts as so much of a right one."""
    rows = [{name: one.parts[name][0] for name in PARTS} for one in judged]
    right = [row["matched"] + hinted * row["partly"] for row in rows]
    whole = [2 * good + row["surplus"] + row["missed"] for good, row in zip(right, rows, strict=True)]
    return Counted(units=[one.item.id for one in judged], won=[2 * good for good in right], of=whole)


def _severity(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
