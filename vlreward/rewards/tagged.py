"""A reward for one part of a text, credited to that part."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vlreward.errors import ConfigError
from vlreward.registry import register
from vlreward.rewards.base import Reward
from vlreward.types import RewardOutput, Rollout, Segment


@register("tagged")
@dataclass(kw_only=True)
class Tagged(Reward):
    """What `of` gives to the inside of the last `<tag>...</tag>`, taken as the answer. In the bounds of `of`.

    That inside is the segment, so `token_selective` and `segment_credit` can credit it to the tokens that wrote it. Without the tag `of`
    judges an empty text, and nothing is marked.

    Source: token-selective credit of Zoom-Zero, arXiv 2512.14273, whose texts hold a time span and an answer in tags of their own.

    Known cheats: those of `of`, on the tag's inside; several such tags (the last counts; pair with `text_pattern`); leaving the tag out
    where another reward pays for the rest (worth what `of` gives an empty answer).

    Example: {keys: {of: exact_match, tag: color}, text: "<color>red</color><answer>3</answer>", target: {answer: red}} -> 1
    """

    of: Reward
    tag: str
    needs = ("text",)

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z][\w-]*", self.tag):
            raise ConfigError(f"is {self.tag!r}, expected a tag's name without brackets", "tag")
        self.bounds = self.of.bounds  # type: ignore[misc]
        self.scope = self.of.scope  # type: ignore[misc]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        spans = [inside(rollout.text or "", self.tag) for rollout in rollouts]
        judged = self.of.score([replace(rollout, text=_answer(rollout, span)) for rollout, span in zip(rollouts, spans, strict=True)])
        marked = [
            [Segment(start=span[0], end=span[1], reward=score)] if span and score == score else []
            for span, score in zip(spans, judged.scores.tolist(), strict=True)
        ]
        return replace(judged, segments=marked)


def inside(text: str, tag: str) -> tuple[int, int] | None:
    """Where the inside of the last `<tag>...</tag>` begins and ends; None where there is none."""
    end = text.rfind(f"</{tag}>")
    start = text.rfind(f"<{tag}>", 0, max(end, 0))
    return (start + len(tag) + 2, end) if 0 <= start < end else None


def _answer(rollout: Rollout, span: tuple[int, int] | None) -> str:
    return f"<answer>{(rollout.text or '')[slice(*span)]}</answer>" if span else ""
