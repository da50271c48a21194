"""Rewards on answered spans of time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.answers import final_answer
from vlreward.rewards.overlap import Graded
from vlreward.rewards.parsing import read_spans, says_none
from vlreward.types import Rollout

Span = tuple[float, float]


@register("temporal_iou")
@dataclass(kw_only=True)
class TemporalIoU(Graded):
    """Seconds common to the answered and the reference spans, over the seconds in either. In [0, 1].

    Several spans on a side are taken as their union. Spans are read from the last answer as `12.5 - 20`, `from 0:12 to 0:20`, `[12.5, 20]`
    or `{"start": 12.5, "end": 20}`, in seconds or as clock times; `target.spans` is a list of `[start, end]` in seconds and may be empty,
    which 'none' or `[]` answers. Where `target.duration` is given, answers are cut off there.

    Source: the temporal IoU of video grounding (arXiv 1705.02101); `form: hit` with `floor: 0.5` is its R1@0.5. The true union is taken,
    where the common code takes the hull, which is too large for spans that do not touch.

    Known cheats: a span that ends before it starts (the whole answer is worth 0, it is not mended); the same span many times (a union
    does not grow); the whole clip (worth the event's share of it; see `floor` and `form`); many spans as a hedge (each second outside
    of the event costs).

    Example: {text: "<answer>10 - 20</answer>", target: {spans: [[15, 25]]}} -> 0.333
    """

    needs = ("text", "target.spans")

    def one(self, rollout: Rollout) -> tuple[float, str]:
        target = rollout.sample.target
        wanted = checked_spans(target["spans"])
        duration = target.get("duration", math.inf)
        if not isinstance(duration, int | float) or not duration > 0:
            raise DataError(f"target.duration is {duration!r}, expected seconds")
        answer = final_answer(rollout.text or "")
        if answer is None:
            return 0.0, "no <answer>...</answer>"
        spans = read_spans(answer[0])
        if not spans:
            right = not wanted and says_none(answer[0])
            return float(right), "none, which is right" if right else "no span in the answer"
        if any(not start < end < math.inf for start, end in spans):
            return 0.0, "a span ends before it starts"
        iou = span_iou([(start, min(end, duration)) for start, end in spans if start < duration], wanted)
        return float(self.worth(np.array(iou))), f"IoU {iou:.2f} of {len(spans)} answered and {len(wanted)} wanted spans"


def span_iou(first: Sequence[Span], second: Sequence[Span]) -> float:
    """Length of the common part of two unions of spans over the length of both together; 0 where both have none."""
    edges = sorted((time, side, step) for side, spans in enumerate((first, second)) for span in spans for time, step in zip(span, (1, -1)))
    common = either = previous = 0.0
    depth = [0, 0]
    for time, side, step in edges:
        common += (time - previous) * (depth[0] > 0 and depth[1] > 0)
        either += (time - previous) * (depth[0] > 0 or depth[1] > 0)
        depth[side] += step
        previous = time
    return common / either if either > 0 else 0.0


def checked_spans(spans: Any, name: str = "spans") -> list[Span]:
    """The spans of a target. Raises DataError naming the one that is wrong."""
    if not isinstance(spans, list | tuple):
        raise DataError(f"target.{name} is {spans!r}, expected a list of [start, end] in seconds")
    for i, span in enumerate(spans):
        numbers = isinstance(span, list | tuple) and len(span) == 2 and all(isinstance(time, int | float) for time in span)
        if not numbers or not 0 <= span[0] < span[1] < math.inf:
            raise DataError(f"target.{name}[{i}] is {span!r}, expected [start, end] in seconds with start < end")
    return [(float(start), float(end)) for start, end in spans]
