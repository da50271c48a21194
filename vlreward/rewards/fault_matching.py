"""Which of the faults that a judge listed are those that people found, by another judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vlreward.critics.parsing import Unreadable, entry
from vlreward.critics.templates import Parts, load_template
from vlreward.errors import DataError

PARTS = ("matched", "partly", "surplus", "missed")
"""Faults of both lists, those that the judge only hinted at, those it listed alone, and those that people found alone."""
Faults = Sequence[Mapping[str, Any]]


def known_faults(target: Mapping[str, Any]) -> Faults | None:
    """`target.faults`, what people found; None where nobody looked. Raises DataError."""
    faults = target.get("faults")
    if faults is None:
        return None
    if not isinstance(faults, list | tuple) or not all(isinstance(fault, Mapping) for fault in faults):
        raise DataError(f"target.faults is {str(faults)[:60]!r}, expected a list of faults with keys and values")
    return faults


def question(listed: Faults, known: Faults) -> Parts:
    """What the matching judge is asked, both lists numbered from 0."""
    template = load_template("match_faults", ("known", "listed"))
    return template.fill({"known": _told(known), "listed": _told(listed)})


def matches(text: str, listed: int, known: int) -> dict[str, float]:
    """How many of so many listed and known faults are matched, by `PARTS`. Raises Unreadable for numbers twice or of no fault."""
    found = entry(text, "matches")
    if not isinstance(found, list) or not all(isinstance(match, dict) for match in found):
        raise Unreadable("'matches' is no list of objects")
    for side, count in (("listed", listed), ("known", known)):
        numbers = [match.get(side) for match in found]
        if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < count for n in numbers) or len(set(numbers)) < len(numbers):
            raise Unreadable(f"'{side}' is {str(numbers)[:40]}, expected different numbers below {count}")
    levels = [match.get("level") for match in found]
    if not set(levels) <= {"yes", "partial"}:
        raise Unreadable(f"the levels are {str(levels)[:40]}, expected yes or partial")
    return counts(levels.count("yes"), levels.count("partial"), listed, known)


def counts(yes: int, hinted: int, listed: int, known: int) -> dict[str, float]:
    """`PARTS` of two lists of so many faults."""
    numbers = (yes, hinted, listed - yes - hinted, known - yes - hinted)
    return dict(zip(PARTS, map(float, numbers), strict=True))


def _told(faults: Faults) -> str:
    """A numbered line a fault; 'none' where there is none."""
    lines = [f"{number}. {'; '.join(f'{name}: {value}' for name, value in fault.items())}" for number, fault in enumerate(faults)]
    return "\n".join(lines) or "none"
