"""Rewards on answered points and on boxes that are meant to be clicked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlreward.config import NotNegative
from vlreward.registry import register
from vlreward.rewards.boxes import BoxReward, answer_texts
from vlreward.rewards.matching import Boxes, Pairs
from vlreward.rewards.overlap import overlap
from vlreward.rewards.parsing import read_points
from vlreward.types import RewardOutput, Rollout


@register("point_in_box")
@dataclass(kw_only=True)
class PointInBox(BoxReward):
    """Share of reference boxes that an answered point lies in, or comes near to, each matched at most once. In [0, 1].

    1 for a point in the box, its border included; `soft`: exp(-d^2 / (2 s^2)) with d the distance to the box's centre and s half its
    diagonal, so 0.61 in its corners. The best one-to-one sum is divided by the larger of the two counts: a surplus point counts 0. Points
    are read from the last answer as JSON with `point_2d`, `(x, y)` or `[x, y]`, in `frame`; where there is none but boxes are, their
    centres are taken.

    Source: the grounding metric of ScreenSpot (arXiv 2401.10935), as in GUI-G1 (arXiv 2505.15810), both with borders; the soft form is
    ours.

    Known cheats: many points (surplus counts 0); points outside of the picture (invalid, not clipped onto a box at its edge); a box of
    no size around the right spot, which a hit cannot tell from the right box (use `click_box` or `box_iou` where boxes are asked for).

    Example: {text: "<answer>(20, 20)</answer>", target: {boxes: [[10, 10, 30, 30]]}} -> 1
    """

    soft: bool = False

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        texts = answer_texts(rollouts)
        found, written = read_points([text or "" for text in texts])
        points = np.concatenate([found, found], 1)
        case = self.framed(rollouts, texts, Boxes(xyxy=points, counts=written), points=True)
        pairs = Pairs.of(case.answered.counts, case.wanted.counts)
        point, box = case.answered.xyxy[pairs.answered, :2], case.wanted.xyxy[pairs.wanted]
        if self.soft:
            away = point - (box[:, :2] + box[:, 2:]) / 2
            values = np.exp(-2 * np.sum(away**2, axis=1) / np.sum((box[:, 2:] - box[:, :2]) ** 2, axis=1))
        else:
            values = np.all((point >= box[:, :2]) & (point <= box[:, 2:]), axis=1).astype(np.float64)
        matched = pairs.match(values)
        sums = np.bincount(pairs.rows[matched], values[matched], minlength=len(rollouts))
        scores = sums / np.maximum(np.maximum(written, case.wanted.counts), 1)

        def note(row: int) -> str:
            if not written[row]:
                return case.nothing(row, "point")
            return f"{sums[row]:.2g} of {case.wanted.counts[row]} boxes hit with {written[row]} points"

        return case.output(scores, note)


@register("click_box")
@dataclass(kw_only=True)
class ClickBox(BoxReward):
    """How well an answered box is one to click: hit, overlap and size together. In [0, hit + iou + size], by default [0, 1.375].

    `hit` if the box's centre lies in the reference box, plus `iou` times their IoU, plus `size` times the harmonic mean of the four
    edges' closeness 1 - |difference| / (width or height of the picture). Needs the picture or `target.size`. With several boxes on
    either side the best one-to-one sum is divided by the larger of the two counts.

    Source: GUI-G1, arXiv 2505.15810 (a hit alone shrinks boxes, IoU alone grows them; weights 1, 0.25 and 0.125 of its code).

    Known cheats: an edge so far outside of the picture that the closeness turns negative, whose harmonic mean has a pole: in the
    published code an edge at -1234 pixels earns 83 (here the box is clipped to the picture, so every closeness lies in [0, 1], and one
    at 0 makes the mean 0); several boxes (each costs its share); a box of no size on the target (invalid, worth 0); any box at all
    (earns no more than a part of `size`).

    Example: {text: "<answer>[10, 10, 30, 30]</answer>", target: {boxes: [[10, 10, 30, 30]], size: [96, 96]}} -> 1.375
    """

    sized = True
    hit: NotNegative = 1.0
    iou: NotNegative = 0.25
    size: NotNegative = 0.125

    def __post_init__(self):
        super().__post_init__()
        self.bounds = (0.0, self.hit + self.iou + self.size)  # type: ignore[misc]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        case = self.read(rollouts)
        pairs = Pairs.of(case.answered.counts, case.wanted.counts)
        first, second = case.answered.xyxy[pairs.answered], case.wanted.xyxy[pairs.wanted]
        centre = (first[:, :2] + first[:, 2:]) / 2
        hit = np.all((centre >= second[:, :2]) & (centre <= second[:, 2:]), axis=1).astype(np.float64)
        close = np.maximum(1 - np.abs(first - second) / np.tile(case.sizes, 2)[pairs.rows], 0)
        with np.errstate(divide="ignore"):
            size = 4 / (1 / close).sum(1)
        iou = overlap(first, second)
        values = self.hit * hit + self.iou * iou + self.size * size
        matched = pairs.match(values)
        most = np.maximum(np.maximum(case.written, case.wanted.counts), 1)
        scores, *parts = (
            np.bincount(pairs.rows[matched], part[matched], minlength=len(rollouts)) / most for part in (values, hit, iou, size)
        )
        named: dict[str, np.ndarray] = dict(zip(("hit", "iou", "size"), parts, strict=True))

        def note(row: int) -> str:
            if not case.written[row]:
                return case.nothing(row)
            return ", ".join(f"{name} {part[row]:.2f}" for name, part in named.items())

        return case.output(scores, note, named)
