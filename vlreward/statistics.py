"""Means with 95 % intervals, the form in which every held-out figure is reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean over `count` finite values with its 95 % interval (Student's t); NaN where there is nothing to average."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}] (n={self.count})"


def interval(values: Sequence[float]) -> Interval:
    """95 % interval of the mean of independent values; values that are not finite are left out."""
    from scipy import stats

    data = np.asarray(list(values), dtype=np.float64)
    data = data[np.isfinite(data)]
    if len(data) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    mean = float(data.mean())
    if len(data) == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
    half = float(stats.t.ppf(0.975, len(data) - 1) * data.std(ddof=1) / len(data) ** 0.5)
    return Interval(mean, mean - half, mean + half, len(data))


def share(wins: Sequence[float]) -> Interval:
    """Share of wins (1, a tie 0.5, a loss 0) with its 95 % Wilson interval, which stays within [0, 1] and is honest where all are won."""
    count = len(wins)
    if count == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    mean, z = sum(wins) / count, 1.959964
    centre = (mean + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (mean * (1 - mean) / count + z * z / (4 * count * count)) ** 0.5
    return Interval(mean, min(mean, max(0.0, centre - half)), max(mean, min(1.0, centre + half)), count)


def pass_at(count: int, right: int, k: int) -> float:
    """Probability that at least one of `k` answers is right, drawn without replacement from `count` of which `right` are.

    Source: the unbiased pass@k of Codex, arXiv 2107.03374.
    """
    assert 1 <= k <= count, f"pass@{k} cannot be told from {count} answers"
    return 1 - comb(count - right, k) / comb(count, k)


def gains(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]] | None = None) -> dict[str, dict[str, float]]:
    """Per term and for 'total', from rows of evaluation_<phase>.jsonl: mean with interval before, after, and the paired gain."""
    out = {}
    for name in [*before[0]["scores"], "total"]:
        first, found = _values(before, name), {}
        phases = {"before": interval(first)}
        if after is not None:
            assert [row["id"] for row in before] == [row["id"] for row in after], "the two evaluations are of different samples"
            second = _values(after, name)
            phases |= {"after": interval(second), "gain": paired_gain(first, second)}
        for phase, value in phases.items():
            found |= {phase: value.mean, f"{phase}_low": value.low, f"{phase}_high": value.high, "count": value.count}
        out[name] = found
    return out


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """One a sample, in order: the mean of its rows that have the score; NaN where none has."""
    values: dict[str, list[float]] = {}
    for row in rows:
        value = row["total"] if name == "total" else row["scores"][name]
        values.setdefault(row["id"], []).extend([] if value is None else [float(value)])
    return [sum(found) / len(found) if found else float("nan") for found in values.values()]


def paired_gain(before: Sequence[float], after: Sequence[float]) -> Interval:
    """95 % interval of the mean change over the same held-out samples (paired differences)."""
    assert len(before) == len(after), "a paired gain needs the same samples before and after"
    return interval([b - a for a, b in zip(before, after, strict=True)])
