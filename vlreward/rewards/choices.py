"""Multiple choice: is exactly the right option named?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.answers import Answered, normalize
from vlreward.types import Rollout

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BOXED = re.compile(r"\\boxed\s*+\{\s*+(?:\\text\s*+\{)?+([^{}]*+)\}")
LEAD = re.compile(
    r"(?:the\s+)?(?:(?:correct|right|best|final)\s+)?(?:answer|option|choice)\s*(?:is\b|:|=)?\s*(?:option\b|choice\b)?\s*:?", re.I
)
LETTER = re.compile(r"[(\[{]\s*([A-Za-z])\s*[)\]}]\s*[.:]?|([A-Za-z])\s*(?:[).:]|$)|([A-Za-z])\s*[-–—]\s+")
ANOTHER = re.compile(r"[(\[{]\s*([A-Za-z])\s*[)\]}]|(?<![\w'’])([A-Z])(?![\w'’])")


@register("multiple_choice")
@dataclass(kw_only=True)
class MultipleChoice(Answered):
    """1 if the answer names the option `target.answer` and no other, else 0.

    `target.answer` is a letter. Read are `B`, `b`, `(B)`, `[B]`, `B.`, `B) text`, `The answer is B`, `\\boxed{B}`, and, where
    `target.choices` lists the options' texts, such a text itself. A text after the letter must be that option's where
    `target.choices` is given, and may not name another option.

    Source: the accuracy reward for multiple choice of Mixed-R1 (arXiv 2505.24164) and VLM-R1; exactly one choice, after the complaint
    in Visual-RFT (issue 79) that listing all options was rewarded.

    Known cheats: naming several or all options (0); a letter with another option's text (0 where `target.choices` is given);
    several tagged answers (the last counts); an empty answer (0); guessing (1/n by design).

    Example: {text: "<answer>(B) a dog</answer>", target: {answer: B, choices: [a cat, a dog]}} -> 1
    """

    def one(self, rollout: Rollout) -> tuple[float, str]:
        wanted, choices = _task(rollout.sample.target)
        found = self.answer(rollout)
        if found is None:
            return 0.0, "no <answer>...</answer>"
        letter = read_choice(found, choices)
        return float(letter == wanted), f"chose {letter or 'nothing clear'}, wanted {wanted}"


def read_choice(answer: str, choices: Sequence[str] = ()) -> str | None:
    """The one option (a capital letter) that an answer names; None where it names none, several, or one with another's text."""
    boxed = BOXED.findall(answer)
    text = (boxed[-1] if boxed else answer).strip().strip("*`\"'").strip()
    texts = [_plain(choice) for choice in choices]
    if texts.count(_plain(text)) == 1:
        return LETTERS[texts.index(_plain(text))]
    lead = LEAD.match(text)
    text = text[lead.end() :].strip().strip("*`\"'").strip() if lead else text
    match = LETTER.match(text)
    if not match:
        return LETTERS[texts.index(_plain(text))] if texts.count(_plain(text)) == 1 else None
    letter = next(group for group in match.groups() if group).upper()
    rest = text[match.end() :].strip()
    if texts:
        fits = letter in LETTERS[: len(texts)] and _plain(rest) in ("", texts[LETTERS.index(letter)])
        return letter if fits else None
    others = {next(group for group in found if group).upper() for found in ANOTHER.findall(rest)} - {letter, "A", "I"}
    bracketed = {found[0].upper() for found in ANOTHER.findall(rest) if found[0]} - {letter}
    return None if others or bracketed else letter


def _plain(text: str) -> str:
    return normalize(text).strip(" .*")


def _task(target: Mapping[str, Any]) -> tuple[str, list[str]]:
    choices = target.get("choices") or []
    if not isinstance(choices, list | tuple) or not all(isinstance(choice, str) for choice in choices) or len(choices) > len(LETTERS):
        raise DataError(f"target.choices is {choices!r}, expected a list of texts, at most {len(LETTERS)}")
    wanted = target["answer"]
    letters = LETTERS[: len(choices) or None]
    letter = wanted.strip(" ()[].:").upper() if isinstance(wanted, str) else ""
    if len(letter) != 1 or letter not in letters:
        raise DataError(f"target.answer is {wanted!r}, expected a letter from A to {letters[-1]}")
    return letter, list(choices)
