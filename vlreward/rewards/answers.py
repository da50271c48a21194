"""Rewards on written answers: is the format kept, is the answer right?"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.base import Reward
from vlreward.types import Rollout

OPEN, CLOSE = "<answer>", "</answer>"


def final_answer(text: str) -> tuple[str, int, int] | None:
    """What stands in the last complete `<answer>...</answer>`, with its character span; None without one."""
    found = split_answer(text)
    if found is None:
        return None
    start = len(found[0]) + len(OPEN)
    return found[1].strip(), start, start + len(found[1])


def split_answer(text: str) -> tuple[str, str] | None:
    """What stands before the last complete `<answer>...</answer>`, and what stands in it; None without one."""
    head, opened, tail = text.rpartition(OPEN)
    while opened:
        inside, closed, _ = tail.partition(CLOSE)
        if closed:
            return head, inside
        head, opened, tail = head.rpartition(OPEN)
    return None


def normalize(text: str) -> str:
    """NFKC, casefolded, runs of whitespace as one space, no space at the ends."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def references(target: Mapping[str, Any], name: str = "answer") -> list[str]:
    """`target.<name>`, which is a text or a number or a list of them, as texts. Raises DataError where there is none or one is empty."""
    given = target[name]
    options = given if isinstance(given, list | tuple) else [given]
    if not options or not all(isinstance(option, str | int | float) and str(option).strip() for option in options):
        raise DataError(f"target.{name} is {given!r}, expected a text or a list of texts, none empty")
    return [str(option) for option in options]


@dataclass(kw_only=True)
class Answered(Reward):
    """Base of rewards on the last `<answer>...</answer>` of a text."""

    tags: bool = True
    """False: a text without the tags is an answer as a whole."""
    needs = ("text", "target.answer")

    def answer(self, rollout: Rollout) -> str | None:
        """What was answered; None where the tags are asked for and missing."""
        text = rollout.text or ""
        found = final_answer(text)
        return found[0] if found else None if self.tags else text.strip()


@register("answer_format")
@dataclass(kw_only=True)
class AnswerFormat(Reward):
    """1 if the text is exactly one `<answer>...</answer>`, after at most one `<think>...</think>`; else 0.

    `style: answer` allows no thinking part, `think` demands one. Nothing but whitespace may stand around the parts.

    Source: the format reward of DeepSeek-R1 (arXiv 2501.12948) and VLM-R1 (arXiv 2504.07615).

    Known cheats: several answers, hoping that one is counted (0: tags may occur once); tags nested in tags (0); an empty answer
    (0); a right format around nonsense is worth 1 by design, so keep its weight small or put it in a gate.
    """

    style: Literal["answer", "think", "any"] = "answer"
    needs = ("text",)

    def one(self, rollout: Rollout) -> float:
        text = (rollout.text or "").strip()
        think = {"answer": "", "think": r"<think>(?P<think>.+?)</think>\s*", "any": r"(?:<think>(?P<think>.+?)</think>\s*)?"}[self.style]
        match = re.fullmatch(think + r"<answer>(?P<answer>.+?)</answer>", text, re.DOTALL)
        if not match:
            return 0.0
        inner = [part for part in match.groupdict().values() if part is not None]
        return float(all(part.strip() and not re.search(r"</?(?:answer|think)>", part) for part in inner))


@register("exact_match")
@dataclass(kw_only=True)
class ExactMatch(Answered):
    """1 if the answer equals `target.answer` (or one of several) after normalisation, else 0.

    The answer is the last `<answer>...</answer>`, or the whole text where the tags are missing and `tags` is false. Normalised by
    NFKC, case folding and whitespace.

    Source: exact match as in SQuAD (arXiv 1606.05250), without its removal of articles and punctuation.

    Known cheats: listing every option (not equal, so 0); giving several tagged answers (only the last counts; pair with
    `answer_format`, which gives such a text 0); an empty answer to an empty target (an empty target is refused as broken data).

    Example: {text: "<answer> Red</answer>", target: {answer: red}} -> 1
    """

    def one(self, rollout: Rollout) -> tuple[float, str]:
        options = [normalize(option) for option in references(rollout.sample.target)]
        found = self.answer(rollout)
        if found is None:
            return 0.0, "no <answer>...</answer>"
        answer = normalize(found)
        return float(answer in options), f"answered {answer!r}, wanted {' or '.join(map(repr, options))}"
