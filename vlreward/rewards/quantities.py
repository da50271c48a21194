"""Is the answered number right, within a tolerance and in whatever unit?"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from vlreward.config import NotNegative
from vlreward.errors import ConfigError, DataError
from vlreward.registry import register
from vlreward.rewards.answers import Answered
from vlreward.types import Rollout

NUMBER = re.compile(
    r"(?<![\w.,])(?P<sign>[-+−]?)\s?(?P<digits>\d{1,3}(?:,\d{3})++(?:\.\d++)?+|\d++\.?+\d*+|\.\d++)"
    r"(?:[eE](?P<exponent>[-+]?\d{1,3}+)(?!\d)|\s?(?:×|x|\*|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{?(?P<power>[-+−]?\d{1,3}+)\}?)?+"
    r"(?:\s?/\s?(?P<divisor>\d++(?:\.\d++)?+))?+"
)
DIGIT = re.compile(r"\d")
FRACTION = re.compile(r"\\[dt]?frac\s*+\{\s*+(-?\d++)\s*+\}\s*+\{\s*+(\d++)\s*+\}")
UNIT = re.compile(r"(?:[A-Za-zµμΩ°%\s*·/()²³]|(?:\^|\*\*)-?[1-4](?!\s*+(?:\^|\*\*|[²³]))){1,40}")
"""What may name a unit. Powers of powers are left out: `m**4**4**4**4` would be computed."""
DEGREES = re.compile(r"\bdegrees?\s++(c|f)(?:elsius|ahrenheit)?\b", re.IGNORECASE)
WRAP = re.compile(r"\\boxed|\\(?:text|mathrm)\b|\\[,;! ]|\\(?=[%$])|[{}$]")


@dataclass(frozen=True)
class Quantity:
    """A number with the text of its unit, '' where there is none."""

    value: float
    unit: str


@register("numeric_match")
@dataclass(kw_only=True)
class NumericMatch(Answered):
    """1 if the one number of the answer is `target.answer` within a tolerance, units converted; else 0.

    Right is what lies within the larger of `relative` * |target| and `absolute`. Read are signs, thousands separators, decimals,
    1.5e3, 1.5 x 10^3, 3/4, \\frac{3}{4} and percent; words and currency signs before the number do not matter. Where the target has a
    unit the answer must have one that converts to it (2 km is 2000 m, 20 °C is 68 °F); `bare` accepts a number without. Where the
    target has none, words after the number ('12 dogs') do not matter.

    Source: relaxed accuracy of ChartQA (arXiv 2203.10244) for the relative tolerance; units by pint.

    Known cheats: several numbers, or a range, hoping that one counts (0: there must be one number); a tolerance that years or small
    counts slip through (both tolerances are 1e-6 unless you widen them); infinity and 'nan' (no numbers).

    Example: {keys: {relative: 0.05}, text: "<answer>1,950 m</answer>", target: {answer: 2 km}} -> 1
    """

    relative: NotNegative = 1e-6
    absolute: NotNegative = 1e-6
    bare: bool = False
    """Accept a number without a unit as if it were in the target's."""

    def load(self, device: str) -> None:
        unit_registry()

    def one(self, rollout: Rollout) -> tuple[float, str]:
        target = rollout.sample.target["answer"]
        wanted = read_quantity(str(target)) if isinstance(target, str | int | float) and not isinstance(target, bool) else None
        if wanted is None or (wanted.unit and not known(wanted.unit)):
            raise DataError(f"target.answer is {target!r}, expected one number, with or without a unit that pint knows")
        found = self.answer(rollout)
        if found is None:
            return 0.0, "no <answer>...</answer>"
        answer = read_quantity(found)
        if answer is None:
            return 0.0, f"not exactly one number in {found[:80]!r}"
        unit = "" if self.bare and not answer.unit else wanted.unit
        value = answer.value if not unit else converted(answer, unit)
        if value is None:
            return 0.0, f"{answer.unit or 'no unit'!r} does not convert to {wanted.unit!r}"
        right = abs(value - wanted.value) <= max(self.relative * abs(wanted.value), self.absolute)
        return float(right), f"answered {value:g} {unit}, wanted {wanted.value:g} {wanted.unit}".strip()


def read_quantity(text: str) -> Quantity | None:
    """The one number of a text and the unit after it; None where there is no number, or a second one outside of the unit."""
    text = WRAP.sub(" ", FRACTION.sub(r"\1/\2", text.replace("{,}", ",")))
    match = NUMBER.search(text)
    if match is None:
        return None
    before, after = text[: match.start()], text[match.end() :]
    unit = DEGREES.sub(lambda found: "deg" + found[1].upper(), after.strip(" .,;_*\n"))
    if DIGIT.search(before) or after[:2].strip(".,").isdigit() or (DIGIT.search(unit) and not UNIT.fullmatch(unit)):
        return None
    power = int((match["exponent"] or match["power"] or "0").replace("−", "-"))
    try:
        value = float(match["digits"].replace(",", "")) * 10.0**power / float(match["divisor"] or 1)
    except ArithmeticError:
        return None
    return Quantity(-value if match["sign"] in ("-", "−") else value, unit) if math.isfinite(value) else None


def known(unit: str) -> bool:
    """Whether a unit is one that answers can be converted to."""
    return _parse(unit) is not None


def converted(quantity: Quantity, unit: str) -> float | None:
    """The value in another unit; None where the two do not convert."""
    if quantity.unit == unit:
        return quantity.value
    ours, theirs = _parse(quantity.unit), _parse(unit)
    if ours is None or theirs is None:
        return None
    try:
        value = float(unit_registry().Quantity(quantity.value, ours).to(theirs).magnitude)
    except (ArithmeticError, ValueError, TypeError, AttributeError):  # pint's own are among these
        return None
    return value if math.isfinite(value) else None


@lru_cache(maxsize=4096)
def _parse(unit: str) -> Any:
    """pint's unit, or None where it knows none of that name; '' is dimensionless."""
    if unit and not UNIT.fullmatch(unit):
        return None
    try:
        return unit_registry().parse_units(unit.replace("μ", "µ").replace("·", "*").replace("^-", "**-"))
    except Exception:  # pint raises many kinds for text that is no unit, tokenizer errors among them
        return None


@cache
def unit_registry() -> Any:
    """pint's registry. Raises ConfigError without the extra 'text'."""
    try:
        import pint
    except ImportError as error:
        raise ConfigError("reward 'numeric_match' needs the extra 'text': pip install 'vlreward[text]'") from error
    return pint.UnitRegistry(cache_folder=None)
