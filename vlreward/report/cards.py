"""Which rollouts the page shows, and what stands on each one's card."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlreward.report.figures import number
from vlreward.report.folder import Row, RunRecord
from vlreward.report.pictures import Album, Embedded

ROLES = ("wanted", "answered", "found")
FAR = 1e5
"""Pixels; a coordinate beyond is drawn there."""
OUTSET = 1.5
"""CSS pixels by which a box is drawn outside of its place, so that its stroke does not hide the edge of what it frames."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """A mark on a picture, in its pixels."""

    role: str
    label: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a tool within a rollout, and what came back."""

    asked: str
    reply: str
    pictures: list[Embedded | str]


@dataclass(frozen=True, kw_only=True)
class Card:
    """One rollout on the page."""

    id: str
    step: Any
    phase: str
    prompt: str
    text: str | None
    picture: Embedded | str | None
    boxes: list[Box]
    total: float | None
    scores: Mapping[str, float | None]
    notes: Mapping[str, str]
    errors: list[str]
    calls: list[Call]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The same held-out sample before and after training."""

    before: Card
    after: Card
    gain: float


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The rollouts of one run that its page shows."""

    best: list[Card]
    worst: list[Card]
    broken: list[Card]
    pairs: list[Pair]
    num_pairs: int
    """Pairs that the shown ones were chosen from"""
    roles: list[str]
    """Kinds of boxes that any card shows, for the legend"""


def shown(chosen: Chosen) -> dict[str, Any]:
    """The figures on the chosen cards, for summary.json."""
    one = {name: [_brief(card) for card in getattr(chosen, name)] for name in ("best", "worst", "broken")}
    pairs = [{"id": p.before.id, "before": p.before.total, "after": p.after.total, "gain": number(p.gain)} for p in chosen.pairs]
    return {**one, "pairs": pairs, "pairs_logged": chosen.num_pairs}


def choose(record: RunRecord, album: Album, extremes: int = 8, pairs: int = 24) -> Chosen:
    """Best, worst and broken rollouts of training (of everything logged where nothing was trained), and pairs before and after."""
    card = _maker(record.path, album)
    trained = [row for row in record.rollouts if row.get("phase") not in ("before", "after")] or record.rollouts
    whole = [row for row in trained if number(row.get("total")) is not None and not row.get("errors")]
    low, high = ranked(whole, -1)[:extremes], ranked(whole, 1)[:extremes]
    if len(whole) < 2 * extremes:
        top = {id(row) for row in high[: (len(whole) + 1) // 2]}
        high, low = [row for row in high if id(row) in top], [row for row in low if id(row) not in top]
    found = matched(record.rollouts)
    shown = [Pair(before=card(b), after=card(a), gain=gain) for b, a, gain in spread(found, pairs)]
    best, worst = [card(row) for row in high], [card(row) for row in low]
    broken = [card(row) for row in record.rollouts if row.get("errors")][: extremes // 2]
    cards = [*best, *worst, *broken, *(c for pair in shown for c in (pair.before, pair.after))]
    used = {box.role for c in cards for box in c.boxes}
    return Chosen(best=best, worst=worst, broken=broken, pairs=shown, num_pairs=len(found), roles=[role for role in ROLES if role in used])


def ranked(rows: Sequence[Row], sign: int) -> list[Row]:
    """By total, the highest (sign 1) or lowest (-1) first, the latest step first among equals, and one row a sample."""
    order = sorted(rows, key=lambda row: (-sign * row["total"], -(number(row.get("step")) or 0)))
    seen: set[Any] = set()
    return [row for row in order if not (row.get("id") in seen or seen.add(row.get("id")))]


def matched(rows: Sequence[Row]) -> list[tuple[Row, Row, float]]:
    """(before, after, gain) of every sample logged in both phases, greatest gain first; a sample's first rollout speaks for it."""
    sides: dict[str, dict[Any, Row]] = {"before": {}, "after": {}}
    for row in rows:
        if row.get("phase") in sides:
            sides[row["phase"]].setdefault(row.get("id"), row)
    both = [(row, sides["after"][key]) for key, row in sides["before"].items() if key in sides["after"]]
    scored = [(b, a, _gain(b, a)) for b, a in both]
    return sorted(scored, key=lambda item: -math.inf if math.isnan(item[2]) else item[2], reverse=True)


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """`count` items at even distances, both ends included, so that what is shown is not picked by its result."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _brief(card: Card) -> dict[str, Any]:
    return {"id": card.id, "step": card.step, "total": card.total, "scores": dict(card.scores)}


def _gain(before: Row, after: Row) -> float:
    first, last = number(before.get("total")), number(after.get("total"))
    return math.nan if first is None or last is None else last - first


def _maker(folder: Path, album: Album) -> Callable[[Row], Card]:
    def card(row: Row) -> Card:
        picture = album.add(folder, row.get("picture"))
        boxes = [box for mark in row.get("marks") or [] if (box := _box(mark, picture))]
        text = row.get("text")
        return Card(
            id=str(row.get("id", "")),
            step=row.get("step"),
            phase=str(row.get("phase", "")),
            prompt=str(row.get("prompt", "")),
            text=None if text is None else str(text),
            picture=picture,
            boxes=sorted(boxes, key=lambda box: ROLES.index(box.role)),
            total=number(row.get("total")),
            scores={str(name): number(value) for name, value in (row.get("scores") or {}).items()},
            notes={str(name): str(note) for name, note in (row.get("notes") or {}).items()},
            errors=[str(error) for error in row.get("errors") or []],
            calls=[_call(action, folder, album) for action in row.get("actions") or [] if isinstance(action, dict) and action.get("reply")],
        )

    return card


def _call(action: Row, folder: Path, album: Album) -> Call:
    pictures = [album.add(folder, name) for name in action.get("visuals") or []]
    given = action.get("arguments")
    arguments = ", ".join(f"{name}: {value}" for name, value in given.items()) if isinstance(given, dict) else ""
    return Call(asked=f"{action.get('name')}({arguments})", reply=str(action["reply"]), pictures=[one for one in pictures if one])


def _box(mark: Any, picture: Embedded | str | None) -> Box | None:
    """A mark as the page draws it; None where there is nothing to draw on or it is no box (an answer may hold anything)."""
    box = mark.get("box") if isinstance(mark, dict) else None
    if not isinstance(picture, Embedded) or not isinstance(box, list) or len(box) != 4 or mark.get("role") not in ROLES:
        return None
    known = [value for value in map(number, box) if value is not None]
    if len(known) != 4:
        return None
    x1, y1, x2, y2 = (min(max(value, -FAR), FAR) for value in known)
    out = OUTSET / picture.scale
    return Box(
        role=mark["role"],
        label=str(mark.get("label", "")),
        x=round(min(x1, x2) - out, 2),
        y=round(min(y1, y2) - out, 2),
        width=round(abs(x2 - x1) + 2 * out, 2),
        height=round(abs(y2 - y1) + 2 * out, 2),
    )
