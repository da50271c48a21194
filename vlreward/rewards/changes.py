"""Which objects changed, in what, to what? Credit for parts of an answer, and a price for guessing and for silence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from vlreward.config import NotNegative
from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.answers import final_answer, normalize
from vlreward.rewards.base import Reward
from vlreward.rewards.parsing import read_objects
from vlreward.types import Rollout

WHOLE, ATTRIBUTE, OBJECT = 5.0, 1.5, 0.5
"""What a change is worth of which all, the object and the attribute, or only the object is right (STAR-R1)."""
MAX_CHANGES = 100
"""Changes read from one answer; every further one counts as wrong."""
KEYS = ("object", "attribute", "value")
TRIPLE = re.compile(r"[\[(]([^\[\](),]++),([^\[\](),]++),([^\[\](),]++)[\])]")

Change = tuple[str, str, str]


@register("change_match")
@dataclass(kw_only=True)
class ChangeMatch(Reward):
    """Partial credit for answered changes (object, attribute, value), with a price for wrong and for missing ones. In [-1, 1].

    An answered change is worth 5 if it is right, 1.5 if only the value is wrong, 0.5 if only the object is right; the best one-to-one
    matching with `target.changes` counts. One that matches nothing costs `wrong`, and each by which fewer were answered than wanted costs
    `missing`. The sum is divided by 5 times the number wanted, so the exact answer is 1, and is not below -1. Changes are read from the
    last answer as `(3, color, red)`, `[3, "color", "red"]` or `{"object": 3, "attribute": "color", "value": "red"}`, up to case.

    Source: STAR-R1, arXiv 2505.15804 (values 5, 1.5 and 0.5; prices for enumeration and inaction); the scale and the matching are ours.

    Known cheats: listing every value of the right attribute, which a plain sum pays 1.5 each (each wanted change is matched once, a
    surplus one costs); listing everything (same, down to -1); answering nothing so as not to err (costs `missing` for each change wanted).

    Example: {text: "<answer>(3, color, blue)</answer>", target: {changes: [[3, color, red]]}} -> 0.3
    """

    wrong: NotNegative = 1.0
    missing: NotNegative = 1.0
    needs = ("text", "target.changes")
    bounds = (-1.0, 1.0)

    def one(self, rollout: Rollout) -> tuple[float, str]:
        wanted = _checked(rollout.sample.target["changes"])
        answer = final_answer(rollout.text or "")
        found = read_changes(answer[0]) if answer else []
        values = np.array([[_worth(change, other) for other in wanted] for change in found[:MAX_CHANGES]]).reshape(-1, len(wanted))
        matched = values[linear_sum_assignment(values, maximize=True)]
        matched = matched[matched > 0]
        price = self.wrong * (len(found) - len(matched)) + self.missing * max(0, len(wanted) - len(found))
        score = max(-1.0, (float(matched.sum()) - price) / (WHOLE * len(wanted)))
        return score, f"{np.count_nonzero(matched == WHOLE)} right and {np.count_nonzero(matched < WHOLE)} half right of {len(found)}"


def read_changes(answer: str) -> list[Change]:
    """Every (object, attribute, value) of an answer, normalised; an object of JSON without the three keys has empty ones."""
    objects = read_objects(answer)
    if objects:
        return [tuple(_plain(entry.get(key, "")) for key in KEYS) for entry in objects]  # type: ignore[misc]
    return [tuple(map(_plain, match)) for match in TRIPLE.findall(answer)]  # type: ignore[misc]


def _worth(change: Change, wanted: Change) -> float:
    if change[0] != wanted[0]:
        return 0.0
    if change[1] != wanted[1]:
        return OBJECT
    return WHOLE if change[2] == wanted[2] else ATTRIBUTE


def _plain(value: Any) -> str:
    """3, 3.0, '3' and ' "3"' are one."""
    text = normalize(str(value)).strip("'\"` ")
    return text.removesuffix(".0") if re.fullmatch(r"\d+\.0", text) else text


def _checked(changes: Any) -> list[Change]:
    good = isinstance(changes, list | tuple) and changes and all(isinstance(c, list | tuple) and len(c) == 3 for c in changes)
    if not good:
        raise DataError(f"target.changes is {changes!r}, expected a list of [object, attribute, value]")
    wanted: list[Change] = [tuple(map(_plain, change)) for change in changes]  # type: ignore[misc]
    if not all(all(change) for change in wanted):
        raise DataError(f"target.changes is {changes!r}, with an empty object, attribute or value")
    return wanted
