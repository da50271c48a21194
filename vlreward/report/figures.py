"""Every figure that the report computes itself; it is stored under `report` in summary.json and the page shows it from there."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vlreward.report.folder import Row, RunRecord
from vlreward.statistics import interval

BINS = 20
COMMONEST = 3
"""Error messages shown per term."""
TAIL = 0.1
"""The share of the last steps that a curve's closing figure is the mean of: one step alone is mostly noise."""


def figures(record: RunRecord) -> dict[str, Any]:
    """`{"curves", "seconds_per_step", "terms", "bad_rows", "rollouts"}` of one run; None stands for a figure that is not there."""
    phases = judged(record)
    names = _names(row for rows in phases.values() for row in rows)
    terms = {name: _term(name, phases) for name in ("total", *names)} if phases else {}
    if alone(terms):
        del terms["total"]
    return {
        "curves": {name: _ends(record, name) for name in curve_names(record.metrics)},
        "seconds_per_step": _stages(record),
        "terms": terms,
        "bad_rows": len(bad_rows(record)),
        "rollouts": len(record.rollouts),
    }


def judged(record: RunRecord) -> dict[str, Sequence[Row]]:
    """phase -> scored rows that the breakdown is about: the first and the last held-out evaluation, else every scored row, else the logged
    rollouts. What was evaluated on the way is among the curves."""
    if record.evaluations:
        phases = list(record.evaluations)
        return {phase: record.evaluations[phase] for phase in dict.fromkeys((phases[0], phases[-1]))}
    scored = [_as_logged(row) for row in record.scores if "scores" in row]
    if any("matched" in row for row in scored):
        sides = {"matched": True, "mismatched": False, "unpaired": None}
        return {side: rows for side, flag in sides.items() if (rows := [row for row in scored if row.get("matched") is flag])}
    if scored:
        return {"scored": scored}
    return {"logged": record.rollouts} if record.rollouts else {}


def curve_names(metrics: Sequence[Row]) -> list[str]:
    """Names of the logged figures, rewards first and stages last; `x_low` and `x_high` belong to `x`."""
    found = dict.fromkeys(name for row in metrics for name in row if name != "step" and number(row[name]) is not None)
    names = [n for n in found if not any(n.endswith(end) and n.removesuffix(end) in found for end in ("_low", "_high"))]
    families = ("reward/total", "reward/", "loss/", "", "time/")
    rank = {name: next(i for i in (0, 1, 2, 4, 3) if name.startswith(families[i])) for name in names}
    return sorted(names, key=lambda name: rank[name])


def by_step(names: Sequence[str]) -> dict[str, list[str]]:
    """`x` -> [`x/step_0`, `x/step_1`, ...], in order, of the figures that were logged for each denoising step."""
    found: dict[str, list[str]] = {}
    for name in names:
        family, step, number_of_step = name.rpartition("/step_")
        if step and number_of_step.isdigit():
            found.setdefault(family, []).append(name)
    return {family: sorted(members, key=lambda name: int(name.rpartition("_")[2])) for family, members in found.items()}


def alone(rows: Mapping[str, Any]) -> bool:
    """Whether the total only repeats a single term of weight 1."""
    rest = [row for name, row in rows.items() if name != "total"]
    keys = ("before", "after", "wins", "mean", "edges")
    if len(rest) != 1 or not isinstance(rest[0], Mapping) or not isinstance(rows.get("total"), Mapping):
        return False
    return all(rows["total"].get(key) == rest[0].get(key) for key in keys) and _means(rows["total"]) == _means(rest[0])


def number(value: Any) -> float | None:
    """A finite number, or None."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def mean(values: Sequence[float]) -> float | None:
    """None where there is nothing to average."""
    return sum(values) / len(values) if values else None


def bad_rows(record: RunRecord) -> list[Row]:
    """Rows of scores.jsonl that were no samples: id and error."""
    return [row for row in record.scores if "scores" not in row]


def _as_logged(row: Row) -> Row:
    """A row of scores.jsonl with the keys of rollouts.jsonl; its one error line is split where a term's name begins."""
    names = "|".join(map(re.escape, row["scores"]))
    errors = re.split(f"; (?=(?:{names}): )", row["error"]) if row.get("error") else []
    return {**row, "total": row.get("score"), "errors": errors}


def _means(row: Mapping[str, Any]) -> dict[str, Any]:
    return {phase: values["mean"] for phase, values in row.get("phases", {}).items()}


def _ends(record: RunRecord, name: str) -> dict[str, Any]:
    values = [value for row in record.metrics if (value := number(row.get(name))) is not None]
    tail = max(1, round(TAIL * len(values)))
    return {"first": values[0], "last": values[-1], "closing_mean": mean(values[-tail:]), "steps": len(values)}


def _stages(record: RunRecord) -> dict[str, float | None]:
    """Mean seconds a step, by stage."""
    names = [name for name in curve_names(record.metrics) if name.startswith("time/")]
    return {n.removeprefix("time/"): mean([v for row in record.metrics if (v := number(row.get(n))) is not None]) for n in names}


def _names(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.get("scores") or {} if name != "total"))


def _term(name: str, phases: dict[str, Sequence[Row]]) -> dict[str, Any]:
    values = {phase: [_score(row, name) for row in rows] for phase, rows in phases.items()}
    known = [value for column in values.values() for value in column if value is not None]
    edges = _edges(known)
    return {"edges": edges, "phases": {phase: _phase(name, rows, values[phase], edges) for phase, rows in phases.items()}}


def _phase(name: str, rows: Sequence[Row], values: Sequence[float | None], edges: Sequence[float]) -> dict[str, Any]:
    by_sample: dict[Any, list[float]] = {}
    for row, value in zip(rows, values, strict=True):
        if value is not None:
            by_sample.setdefault(row.get("id"), []).append(value)
    found = interval([sum(column) / len(column) for column in by_sample.values()])
    errors = [error for row in rows for error in _errors(row, name)]
    broken = sum(bool(_errors(row, name)) for row in rows)
    return {
        "mean": number(found.mean),
        "low": number(found.low),
        "high": number(found.high),
        "samples": found.count,
        "rows": len(rows),
        "counts": _counts([value for value in values if value is not None], edges),
        "not_applicable": sum(value is None for value in values) - broken,
        "broken": broken,
        "errors": [{"error": text, "count": count} for text, count in Counter(errors).most_common(COMMONEST)],
    }


def _score(row: Row, name: str) -> float | None:
    return number(row.get("total")) if name == "total" else number((row.get("scores") or {}).get(name))


def _errors(row: Row, name: str) -> list[str]:
    """The errors of one term, without its name; `total` has those of all."""
    errors = [str(error) for error in row.get("errors") or []]
    if name == "total":
        return errors
    return [error.removeprefix(f"{name}: ") for error in errors if error.startswith(f"{name}: ")]


def _edges(values: Sequence[float]) -> list[float]:
    """BINS + 1 edges: 0 to 1 where all values lie there, else from the least to the most."""
    if not values:
        return []
    low, high = min(values), max(values)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low == high:
        low, high = low - 0.5, high + 0.5
    return [low + (high - low) * i / BINS for i in range(BINS + 1)]


def _counts(values: Sequence[float], edges: Sequence[float]) -> list[int]:
    counts = [0] * max(len(edges) - 1, 0)
    for value in values:
        place = int((value - edges[0]) / (edges[-1] - edges[0]) * BINS + 1e-9)
        counts[min(max(place, 0), BINS - 1)] += 1
    return counts
