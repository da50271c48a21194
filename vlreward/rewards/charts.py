"""Is the answer to a question about a chart right, give or take a reading error?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from vlreward.config import NotNegative
from vlreward.registry import register
from vlreward.rewards.answers import Answered, normalize, references
from vlreward.types import Rollout

AMOUNT = re.compile(
    r"(?P<open>\()?(?P<sign>[-+\u2212])?\s*(?P<before>[$€£¥₹])?\s*(?P<second>[-\u2212])?"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*|\.\d+)(?P<exponent>e[-+]?\d{1,3})?"
    r"\s*(?P<percent>%|percent\b)?\s*(?P<unit>[^\W\d_][\w./²³]*(?:\s[^\W\d_]+)?|[$€£¥₹])?(?P<close>\))?\.?"
)
SCALES = {"thousand": 1e3, "k": 1e3, "million": 1e6, "mn": 1e6, "m": 1e6, "billion": 1e9, "bn": 1e9, "b": 1e9, "trillion": 1e12, "tn": 1e12}
YEARS = range(1900, 2101)
MAX_ITEMS = 50
MAX_AMOUNT = 60
"""Characters; a longer text is no number."""


class Amount(NamedTuple):
    """A number as written."""

    value: float
    percent: bool
    unit: str
    plain: bool
    """Only digits: such a number may be a year."""


def read_amount(text: str) -> Amount | None:
    """The number that a text is (not: contains), with thousands separators, sign, currency, %, scale word and unit; None otherwise."""
    match = AMOUNT.fullmatch(text) if len(text) <= MAX_AMOUNT else None
    if not match or bool(match["open"]) != bool(match["close"]):
        return None
    value = float(match["digits"].replace(",", "") + (match["exponent"] or ""))
    scale, _, unit = (match["unit"] or "").partition(" ")
    if scale in SCALES and not (scale == "m" and unit):
        value *= SCALES[scale]
    else:
        unit = match["unit"] or ""
    if match["open"] or match["sign"] in ("-", "\u2212") or match["second"]:
        value = -value
    unit = unit or match["before"] or ""
    return Amount(value, bool(match["percent"]), unit, match["digits"].isdigit() and text.isdigit()) if np.isfinite(value) else None


def relaxed(wanted: str, answer: str, tolerance: float = 0.05) -> bool:
    """ChartQA's rule to the letter: within `tolerance` of a wanted number that is not 0, otherwise equal but for case."""
    target, value = _float(wanted), _float(answer)
    if value is not None and target:
        return abs(value - target) / abs(target) <= tolerance
    return answer.lower() == wanted.lower()


def relaxed_robust(wanted: str, answer: str, tolerance: float = 0.05) -> bool:
    """The rule with numbers read as people write them, lists in any order, and years exact."""
    wanted, answer = (normalize(text).rstrip(".") for text in (wanted, answer))
    if wanted == answer:
        return True
    target, value = read_amount(wanted), read_amount(answer)
    if target and value:
        return _close(target, value, tolerance)
    targets, values = _items(wanted), _items(answer)
    if len(targets) != len(values) or len(targets) < 2:
        return False
    equal = np.array([[relaxed_robust(t, v, tolerance) for v in values] for t in targets])
    return bool(equal[linear_sum_assignment(~equal)].all())


def _close(target: Amount, value: Amount, tolerance: float) -> bool:
    if target.unit and value.unit and target.unit.rstrip("s.") != value.unit.rstrip("s."):
        return False
    if target.plain and target.value in YEARS:
        return value.value == target.value
    readings = {(target.value, value.value)}
    if target.percent != value.percent:  # 50% is written as 50 and as 0.5
        percent, other = (target.value, value.value) if target.percent else (value.value, target.value)
        readings.add((percent / 100, other) if target.percent else (other, percent / 100))
    return any(abs(v - t) <= tolerance * abs(t) for t, v in readings)


def _items(text: str) -> list[str]:
    parts = re.split(r",(?!\d{3}\b)|;|\n|\band\b|&", text.strip("[](){} ")[:5000])
    items = [part.strip(" '\"") for part in parts if part.strip(" '\"")]
    return items if len(items) <= MAX_ITEMS else []


def _float(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


@register("relaxed_accuracy")
@dataclass(kw_only=True)
class RelaxedAccuracy(Answered):
    """1 if the answer equals `target.answer` (or one of several), numbers give or take `tolerance`; else 0.

    The answer is the last `<answer>...</answer>`, or the whole text where the tags are missing and `tags` is false. `rule: robust` reads
    1,234, $5, 12 million, 3e4, (7) and units; takes 50% for 50 and for 0.5; wants 0 for 0; compares lists item by item in any order;
    and wants a year (a bare whole number from 1900 to 2100) exactly. `rule: strict` is ChartQA's code to the letter, to compare figures:
    only what Python's float takes is a number, 50% is 0.5, and a wanted 0 is compared as text.

    Source: ChartQA (arXiv 2203.10244, section 5.1) as pix2struct computes it; exact years as in ChartQAPro.

    Known cheats: a year nearby (exact here; 5 percent of 2000 are a century); several numbers or a range, hoping that one counts (a text
    with two numbers is no number, a list must match item by item); several tagged answers (the last counts); nan and inf (no numbers in
    robust, never close in strict); rounding to two digits is worth 1 by design.

    Example: {text: "<answer>1,030</answer>", target: {answer: 1000}} -> 1
    """

    rule: Literal["robust", "strict"] = "robust"
    tolerance: NotNegative = 0.05

    def one(self, rollout: Rollout) -> tuple[float, str]:
        options = references(rollout.sample.target)
        answer = self.answer(rollout)
        if answer is None:
            return 0.0, "no <answer>...</answer>"
        rule = relaxed if self.rule == "strict" else relaxed_robust
        right = any(rule(option, answer, self.tolerance) for option in options)
        return float(right), f"answered {answer[:100]!r}, wanted {' or '.join(map(repr, options))}"
