"""What in a run's figures looks like a policy that cheats, or has stopped to learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from statistics import fmean

STEPS = 10
"""The first and the last so many steps are compared."""
LONGER = 2.0
"""Answers so many times as long, or as short, as at first are named."""
DEAD = 0.8
"""Share of groups with equal rewards that is named where it was half of that at first."""
SURE = 0.1
"""Entropy that has fallen to this share of the first is named."""
GAINED, FLAT = 0.1, 0.01
"""A format reward that gains more than the first, while the heaviest other reward gains less than the second, is named."""


def suspicions(rows: Sequence[Mapping[str, float]], weights: Mapping[str, float]) -> dict[str, str]:
    """Kind -> one line, from a run's rows of metrics and its terms' weights; none before twice STEPS rows."""
    rows = [row for row in rows if "reward/total" in row]
    return dict(_found(rows[:STEPS], rows[-STEPS:], weights)) if len(rows) >= 2 * STEPS else {}


def _found(
    first: Sequence[Mapping[str, float]], last: Sequence[Mapping[str, float]], weights: Mapping[str, float]
) -> Iterator[tuple[str, str]]:
    def change(name: str) -> tuple[float, float] | None:
        means = [[row[name] for row in rows if isfinite(row.get(name, float("nan")))] for rows in (first, last)]
        return (fmean(means[0]), fmean(means[1])) if all(means) else None

    if (length := change("length")) and not 1 / LONGER < length[1] / max(length[0], 1e-9) < LONGER:
        yield "length", f"answers went from {length[0]:.0f} to {length[1]:.0f} tokens; is a reward paid by the length?"
    if (dead := change("dead_fraction")) and dead[1] > DEAD and dead[0] < DEAD / 2:
        yield "variance", f"{dead[1]:.0%} of the groups have equal rewards ({dead[0]:.0%} at first), so there is little left to learn from"
    if (entropy := change("entropy")) and entropy[1] < SURE * entropy[0]:
        yield "entropy", f"entropy fell from {entropy[0]:.3g} to {entropy[1]:.3g}; answers are nearly always the same"
    formats = {name for name in weights if "format" in name}
    others = {name: abs(weight) for name, weight in weights.items() if name not in formats}
    main = max(others, key=lambda name: others[name], default="")
    truth = change(f"reward/{main}")
    for name in sorted(formats):
        form = change(f"reward/{name}")
        if form and truth and form[1] - form[0] > GAINED and truth[1] - truth[0] < FLAT:
            yield "format", f"{name} went from {form[0]:.2f} to {form[1]:.2f} while {main} stayed at {truth[1]:.2f}"
