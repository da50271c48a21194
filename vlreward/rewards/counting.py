"""Is the answered number right, or near?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.answers import final_answer, normalize
from vlreward.rewards.base import Reward
from vlreward.types import Rollout

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
WORDS = {word: number for number, word in enumerate(ONES.split())} | {word: 20 + 10 * i for i, word in enumerate(TENS.split())}
TIMES = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 1_000_000}
NOTHING = {"no", "none", "nothing"}
TOKEN = re.compile(r"(?<![\w.])[-+\u2212\u2013]?\d+(?:,\d{3})*(?:\.\d+)?(?!\w)|[^\W\d_]+")
SIGN = re.compile("[\u2212\u2013]")
LARGEST = 10**12
"""A larger number is no count, and floats still hold this one exactly."""


@register("count_match")
@dataclass(kw_only=True)
class CountMatch(Reward):
    """How near the answered number is to `target.answer`. In [0, 1].

    exact: 1 if equal; relative: max(0, 1 - |n - wanted| / max(wanted, 1)); log_ratio: (smaller + 1) / (larger + 1). The answer is the last
    `<answer>...</answer>`, or the whole text where the tags are missing and `tags` is false; it must name one number, in digits
    ('1,200 dogs') or words ('twenty-one', 'two dozen', 'none').

    Source: counting rewards and metrics in common use; log_ratio is exp(-|log((n + 1) / (wanted + 1))|).

    Known cheats: several numbers or a range (0; the same number twice, as in 'three (3)', is one); fractions, to lie between (0); far too
    high numbers, whose relative error is negative in the public graded GenEval reward (at least 0 here); with relative and log_ratio the
    commonest count earns something everywhere (exact does not).

    Example: {keys: {mode: relative}, text: "<answer>five</answer>", target: {answer: 4}} -> 0.75
    """

    mode: Literal["exact", "relative", "log_ratio"] = "exact"
    tags: bool = True
    needs = ("text", "target.answer")

    def one(self, rollout: Rollout) -> tuple[float, str]:
        wanted = read_count(str(rollout.sample.target["answer"]))
        if wanted is None:
            raise DataError(f"target.answer is {rollout.sample.target['answer']!r}, expected one whole number of things")
        answer = final_answer(rollout.text or "")
        if answer is None and self.tags:
            return 0.0, "no <answer>...</answer>"
        found = read_count(answer[0] if answer else rollout.text or "")
        if found is None:
            return 0.0, "the answer does not name one whole number"
        return count_score(found, wanted, self.mode), f"answered {found}, wanted {wanted}"


def count_score(found: int, wanted: int, mode: Literal["exact", "relative", "log_ratio"] = "exact") -> float:
    """How near one count is to another, in [0, 1]."""
    if mode == "exact":
        return float(found == wanted)
    if mode == "relative":
        return max(0.0, 1 - abs(found - wanted) / max(wanted, 1))
    return (min(found, wanted) + 1) / (max(found, wanted) + 1)


def read_count(text: str) -> int | None:
    """The one number of things that a text names, in digits or in English words; None for none, several, fractions or ranges."""
    tokens = TOKEN.findall(normalize(text))
    found = _numbers(tokens)
    if not found:
        return 0 if NOTHING.intersection(tokens) else None
    number = found.pop()
    if found or not 0 <= number <= LARGEST or number != int(number):
        return None
    return int(number)


def _numbers(tokens: list[str]) -> set[float]:
    """The distinct numbers that tokens spell: 'two hundred and five', '2 dozen', '7'."""
    found: set[float] = set()
    thousands, rest, digits = 0.0, None, False
    for token in [*tokens, ""]:
        numeral = token[-1:].isdigit()
        value = float(SIGN.sub("-", token).replace(",", "")) if numeral else WORDS.get(token)
        if token in TIMES:
            rest = (1 if rest is None else rest) * TIMES[token]
            if rest >= 1000:
                thousands, rest = thousands + rest, None
        elif value is not None and not numeral and not digits and _goes_on(rest, value):
            rest = (rest or 0) + value
        elif token != "and":
            if thousands or rest is not None:
                found.add(thousands + (rest or 0))
            thousands, rest, digits = 0.0, value, numeral
    return found


def _goes_on(number: float | None, word: float) -> bool:
    """Whether a number word belongs to the number before it: the 'five' of 'two hundred five' and of 'twenty five', not of 'two five'."""
    if number is None:
        return True
    return word > 0 and (number % 100 == 0 or (number % 100 >= 20 and number % 10 == 0 and word < 10))
