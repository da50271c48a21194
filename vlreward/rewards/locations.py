"""Does a text say where each thing is that its reasons are about?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vlreward.config import Fraction
from vlreward.errors import ConfigError, DataError
from vlreward.registry import register
from vlreward.rewards.answers import normalize
from vlreward.rewards.boxes import MAX_BOXES, check_boxes
from vlreward.rewards.frames import Framed
from vlreward.rewards.overlap import overlap, valid
from vlreward.rewards.parsing import read_labelled
from vlreward.rewards.tagged import inside
from vlreward.types import RewardOutput, Rollout, Segment

IDLE = re.compile(r"\b(?:an?|the|is|are|at|in|and|located)\b")


@register("named_location")
@dataclass(kw_only=True)
class NamedLocation(Framed):
    """Share of the things of `target.labels` that the text places right, by name. In [0, 1].

    Places are read from the inside of the last `<tag>...</tag>`, or from the whole text with `tag: ""`: `name: [x1, y1, x2, y2], ...` or
    JSON objects with `label` and `bbox_2d`, in `frame`; `target.boxes` are in pixels, one for each label. A place is right by
    `centre`: where 2 c - 1 > `at`, c = sqrt((1 - dx)(1 - dy)) with the distances of the centres over half of the box's width and
    height, cut to 1; or by `overlap`: where the IoU is above `at`. The number of right places is divided by the larger of the
    counts of wanted and listed ones. Names count without case, articles and punctuation.

    Source: the location reward of SURDS, arXiv 2411.13112, both forms with their threshold 0.5; surplus places cost nothing there.

    Known cheats: many boxes for one name (a name listed twice is wrong) or for names that nobody asked for (they lower the share); a
    tiny box in the middle is right by `centre` (take `overlap` where extents matter); all names in one box (right for at most those
    whose centre it has).

    Example: {text: "<location>the red circle: [10, 10, 30, 30]</location>", target: {labels: [red circle], boxes: [[11, 10, 30, 30]]}} -> 1
    """

    tag: str = "location"
    form: Literal["centre", "overlap"] = "centre"
    at: Fraction = 0.5
    needs = ("text", "target.boxes", "target.labels")

    def __post_init__(self):
        super().__post_init__()
        if self.tag and not re.fullmatch(r"[A-Za-z][\w-]*", self.tag):
            raise ConfigError(f"is {self.tag!r}, expected a tag's name without brackets, or '' for the whole text", "tag")

    def one(self, rollout: Rollout) -> tuple[float, str]:
        target, text = rollout.sample.target, rollout.text or ""
        boxes, labels = target["boxes"], target["labels"]
        check_boxes(boxes)
        named = isinstance(labels, list | tuple) and all(isinstance(label, str) for label in labels)
        if not named or len(labels) != len(boxes) or len({plain(label) for label in labels}) < len(labels):
            raise DataError(f"target.labels is {labels!r}, expected a name of its own for each of the {len(boxes)} boxes")
        span = inside(text, self.tag) if self.tag else (0, len(text))
        if span is None:
            return 0.0, f"no <{self.tag}>...</{self.tag}>"
        names, places, _ = read_labelled([text[slice(*span)]])
        x, y, width, height = self.scale(rollout)
        with np.errstate(over="ignore", invalid="ignore"):
            places = np.clip(places[:MAX_BOXES] * (x, y, x, y), 0, (width, height, width, height))
        sound = valid(places)
        listed = [plain(name) for name in names]
        right = []
        for label, box in zip(labels, boxes, strict=True):
            rows = [row for row, name in enumerate(listed) if name == plain(label)]
            if len(rows) == 1 and rows[0] < MAX_BOXES and sound[rows[0]] and self._near(places[rows[0]], np.array(box, dtype=np.float64)):
                right.append(label)
        note = f"{len(right)} of {len(labels)} wanted and {len(names)} listed places are right: {', '.join(right)}"
        return len(right) / max(len(labels), len(names)), note.removesuffix(": ")

    def _near(self, place: np.ndarray, box: np.ndarray) -> bool:
        if self.form == "overlap":
            return float(overlap(place, box)) > self.at
        apart = np.abs(place[:2] + place[2:] - box[:2] - box[2:]) / (box[2:] - box[:2])
        return 2 * float(np.sqrt(np.prod(1 - np.minimum(apart, 1)))) - 1 > self.at

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        output = super().batch(rollouts)
        for row, rollout in enumerate(rollouts):
            span = inside(rollout.text or "", self.tag) if self.tag else None
            if span and output.errors[row] is None:
                output.segments[row] = [Segment(start=span[0], end=span[1], reward=float(output.scores[row]))]
        return output


def plain(name: str) -> str:
    """A name without case, articles, punctuation and the words that link it to a place."""
    return " ".join(IDLE.sub(" ", re.sub(r"[^\w\s]", " ", normalize(name))).split())
