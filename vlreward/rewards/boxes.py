"""Rewards on answered boxes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.answers import CLOSE, OPEN, split_answer
from vlreward.rewards.frames import Framed, distinct
from vlreward.rewards.matching import Boxes, Pairs
from vlreward.rewards.overlap import LOWEST, Graded, Measure, overlap, valid
from vlreward.rewards.parsing import read_boxes
from vlreward.types import Mark, OnDemand, RewardOutput, Rollout

MAX_BOXES = 100
"""Boxes read from one answer; every further one counts as surplus without being matched."""


@dataclass(kw_only=True)
class BoxAnswers:
    """What B rollouts answered and what was wanted; for a row with an error nothing is wanted."""

    texts: list[str | None]
    """What stands in the last answer tags; None without them."""
    listed: Boxes
    """Every box of the answers, good or bad, as written"""
    answered: Boxes
    """Those among the first MAX_BOXES of a row that are valid, in pixels and clipped to the picture"""
    wanted: Boxes
    sizes: np.ndarray
    """[B,2] (width, height) of the picture, inf where unknown"""
    errors: list[str | None]

    @property
    def written(self) -> np.ndarray:
        """[B] how many boxes each answer lists"""
        return self.listed.counts

    def output(self, scores: np.ndarray, note: Callable[[int], str], parts: Mapping[str, np.ndarray] | None = None) -> RewardOutput:
        """Scores [B], a note for each row and the boxes as marks; NaN where a row has an error."""
        if any(self.errors):
            scores = np.where([error is not None for error in self.errors], np.nan, scores)
        return RewardOutput(
            scores=torch.from_numpy(np.asarray(scores, dtype=np.float64)),
            parts={name: torch.from_numpy(values) for name, values in (parts or {}).items()},
            notes=OnDemand(len(self.texts), lambda row: "" if self.errors[row] else note(row)),
            marks=OnDemand(len(self.texts), self._marks),
            errors=self.errors,
        )

    def nothing(self, row: int, what: str = "box") -> str:
        """The note for an answer without boxes."""
        return "no <answer>...</answer>" if self.texts[row] is None else f"no {what} in the answer"

    def _marks(self, row: int) -> list[Mark]:
        roles: tuple[tuple[Boxes, Literal["answered", "wanted"]], ...] = ((self.wanted, "wanted"), (self.answered, "answered"))
        return [Mark(box=(a, b, c, d), role=role) for boxes, role in roles for a, b, c, d in boxes.row(row).tolist()]


@dataclass(kw_only=True)
class BoxReward(Framed):
    """Base of rewards that compare answered boxes with `target.boxes`, which are in pixels of the original picture."""

    needs = ("text", "target.boxes")

    def read(self, rollouts: Sequence[Rollout]) -> BoxAnswers:
        """The boxes of B answers and targets, labels aside."""
        texts = answer_texts(rollouts)
        numbers, counts = read_boxes([text or "" for text in texts])
        return self.framed(rollouts, texts, Boxes(xyxy=numbers, counts=counts))

    def wanted(self, rollouts: Sequence[Rollout], empty: bool) -> tuple[Boxes, list[str | None]]:
        """The reference boxes of B rollouts and [B] what is wrong with them."""
        return wanted_boxes(rollouts, empty)

    def framed(
        self, rollouts: Sequence[Rollout], texts: list[str | None], listed: Boxes, empty: bool = False, points: bool = False
    ) -> BoxAnswers:
        """The same from boxes as they were read: brought to pixels, clipped, invalid ones dropped.

        A target without boxes is broken unless `empty`. `points` are boxes without an extent; one outside of the picture is invalid.
        """
        firsts, index = distinct(rollouts)
        wanted, wrong = self.wanted(firsts, empty)
        scales, sizes, errors = self.scales(firsts)
        wanted, sizes, rows = wanted.take(index), sizes.take(index, 0), listed.rows
        boxes, limits = listed.xyxy, np.concatenate([sizes, sizes], 1).take(rows, 0)
        if self.frame != "pixels":
            with np.errstate(over="ignore"):  # a number near the largest float becomes infinite, which is cut off or invalid below
                boxes = boxes * np.tile(scales[index], 2)[rows]
        if points:
            sound = np.all(np.isfinite(boxes) & (boxes >= 0) & (boxes <= limits), axis=1)
        else:
            boxes = np.clip(boxes, 0, limits)
            sound = valid(boxes)
        if listed.counts.max(initial=0) > MAX_BOXES:
            sound &= np.arange(len(rows)) - (np.cumsum(listed.counts) - listed.counts)[rows] < MAX_BOXES
        errors = [first or second for first, second in zip(wrong, errors, strict=True)]
        good = np.array([error is None for error in errors])
        if not good.all():
            wanted = wanted.keep(good[index][wanted.rows])
        return BoxAnswers(
            texts=texts,
            listed=listed,
            answered=Boxes(xyxy=boxes, counts=listed.counts, labels=listed.labels).keep(sound),
            wanted=wanted,
            sizes=sizes,
            errors=[errors[place] for place in index.tolist()],
        )


@register("box_iou")
@dataclass(kw_only=True)
class BoxIoU(Graded, BoxReward):
    """Mean overlap of answered boxes with reference boxes, each matched at most once. In [0, 1].

    The sum of overlaps over the best one-to-one matching, divided by the larger of the two counts: a missing or surplus box counts 0.
    Boxes are read from the last `<answer>...</answer>` as JSON with `bbox_2d`, as `(x1,y1),(x2,y2)` with or without Qwen's box tokens,
    or as plain `[x1, y1, x2, y2]`, in `frame`; `target.boxes` is always in pixels of the original picture. Boxes with x1 >= x2 or
    y1 >= y2 are invalid and worth 0; the rest is clipped to the picture. Measures other than IoU tell a near miss from a far one; they
    reach below 0 and are mapped to [0, 1] by (x - low) / (1 - low) with low = -1 (giou, diou) or -1.5 (ciou), so boxes that only
    touch are worth about 0.5 or 0.6.

    Source: VLM-R1, arXiv 2504.07615 (IoU of one box; half-open pixels here, where its code counts inclusive ones); GIoU,
    arXiv 1902.09630; DIoU and CIoU, arXiv 1911.08287; `steps` is COCO's set of thresholds.

    Known cheats: listing many boxes (surplus counts 0); several answers (the last counts); the whole picture as box (worth the
    object's share of the area; raise `floor` or take `form: steps` where objects are large); boxes far outside of the picture
    (clipped, an empty rest is invalid); swapped corners (invalid, not mended); with giou, diou and ciou any box at all earns something
    (a `floor` takes that).

    Example: {text: "<answer>[10, 10, 30, 30]</answer>", target: {boxes: [[10, 10, 30, 30]]}} -> 1
    """

    measure: Measure = "iou"

    def __post_init__(self):
        BoxReward.__post_init__(self)
        Graded.__post_init__(self)

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        case = self.read(rollouts)
        pairs = Pairs.of(case.answered.counts, case.wanted.counts)
        values = overlap(case.answered.xyxy[pairs.answered], case.wanted.xyxy[pairs.wanted], self.measure)
        low = LOWEST[self.measure]
        values = self.worth((values - low) / (1 - low) if low else values)
        matched = pairs.match(values)
        sums = np.bincount(pairs.rows[matched], values[matched], minlength=len(rollouts))
        scores = sums / np.maximum(np.maximum(case.written, case.wanted.counts), 1)
        name = "IoU" if self.measure == "iou" else self.measure

        def note(row: int) -> str:
            if not case.written[row]:
                return case.nothing(row)
            return f"{name} {scores[row]:.2f} of {case.written[row]} answered and {case.wanted.counts[row]} wanted"

        return case.output(scores, note)


def answer_texts(rollouts: Sequence[Rollout]) -> list[str | None]:
    """[B] what stands in the last answer tags, None without them"""
    texts: list[str | None] = []
    for rollout in rollouts:
        _, opened, tail = (text := rollout.text or "").rpartition(OPEN)
        inside, closed, _ = tail.partition(CLOSE)
        if not (opened and closed):  # an opened tag that stays open; an earlier one may be closed
            found = split_answer(text)
            texts.append(found[1].strip() if found else None)
        else:
            texts.append(inside.strip())
    return texts


def wanted_boxes(rollouts: Sequence[Rollout], empty: bool = False) -> tuple[Boxes, list[str | None]]:
    """`target.boxes` of B rollouts, and [B] what is wrong with them; a row with an error has none."""
    rows = [rollout.sample.target["boxes"] for rollout in rollouts]
    errors: list[str | None] = [None] * len(rows)
    try:
        counts = np.array(list(map(len, rows)), dtype=np.int64)
        numbers = np.array(list(itertools.chain.from_iterable(rows)))
        plain = numbers.dtype.kind in "if" and numbers.ndim == 2 and numbers.shape[1] == 4
        if plain and valid(numbers).all() and (empty or counts.min(initial=1)):
            return Boxes(xyxy=numbers.astype(np.float64), counts=counts), errors
    except (TypeError, ValueError, OverflowError):
        pass  # some row is wrong; which one is found below
    good: list[list[list[float]]] = []
    for i, boxes in enumerate(rows):
        try:
            check_boxes(boxes, empty)
        except DataError as error:
            errors[i], boxes = str(error), []
        good.append(boxes)
    flat = np.array(list(itertools.chain.from_iterable(good)), dtype=np.float64).reshape(-1, 4)
    return Boxes(xyxy=flat, counts=np.array(list(map(len, good)), dtype=np.int64)), errors


def check_boxes(boxes: Any, empty: bool = False, name: str = "boxes") -> None:
    """Raise DataError naming the box of a target that is wrong."""
    if not isinstance(boxes, list | tuple) or not (boxes or empty):
        raise DataError(f"target.{name} is {boxes!r}, expected a list of [x1, y1, x2, y2]")
    for i, box in enumerate(boxes):
        numbers = isinstance(box, list | tuple) and all(isinstance(v, int | float) and math.isfinite(v) for v in box)
        if not numbers or len(box) != 4:
            got = f"{len(box)} numbers" if numbers else repr(box)
            raise DataError(f"target.{name}[{i}] has {got}, expected x1 y1 x2 y2 in pixels")
        if box[0] >= box[2] or box[1] >= box[3]:
            raise DataError(f"target.{name}[{i}] is {list(box)}, expected x1 < x2 and y1 < y2")
