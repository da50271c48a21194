"""Rewards on answered boxes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from vlreward.config import Fraction
from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.answers import final_answer
from vlreward.rewards.base import Reward
from vlreward.types import Mark, RewardOutput, Rollout

Frame = Literal["pixels", "resized", "thousand", "unit"]
"""Where coordinates count: pixels of the original, pixels of the resized input, 0-1000 (norm1000), or 0-1."""
NUMBER = r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*"
BOX = re.compile(rf"[\[(]{NUMBER},{NUMBER},{NUMBER},{NUMBER}[\])]")
MAX_BOXES = 100
"""Boxes read from one answer; every further one counts as surplus without being matched."""


def read_boxes(answer: str) -> np.ndarray:
    """[A,4] xyxy of every `[x1, y1, x2, y2]` in an answer, as written; floats and signs are read too."""
    found = [[float(value) for value in match] for match in BOX.findall(answer)]
    return np.array(found, dtype=np.float64).reshape(-1, 4)


def to_pixels(boxes: np.ndarray, frame: Frame, size: tuple[float, float], resized: tuple[float, float] | None = None) -> np.ndarray:
    """Boxes [A,4] of a frame in pixels of the original picture. `size` and `resized` are (width, height)."""
    if frame == "pixels":
        return boxes
    if frame == "resized":
        if resized is None:
            raise DataError("the frame 'resized' needs target.resized: [width, height] of the picture as the model saw it")
        unit = np.array([*resized, *resized], dtype=np.float64)
    else:
        unit = np.full(4, 1000.0 if frame == "thousand" else 1.0)
    return boxes / unit * np.array([*size, *size], dtype=np.float64)


def valid(boxes: np.ndarray) -> np.ndarray:
    """[A] whether each box is finite and has x1 < x2 and y1 < y2."""
    return np.isfinite(boxes).all(1) & (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])


def pairwise_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """iou_AW of two sets of xyxy boxes; 0 where either has no area."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    areas = [np.clip(b[:, 2:] - b[:, :2], 0, None).prod(-1) for b in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


@register("box_iou")
@dataclass(kw_only=True)
class BoxIoU(Reward):
    """Mean IoU of answered boxes against reference boxes, each matched at most once. In [0, 1].

    The sum of IoU over the best one-to-one matching, divided by the larger of the two counts: a missing or surplus box counts as
    IoU 0. Boxes are read from the last `<answer>...</answer>` as `[x1, y1, x2, y2]` (a JSON list of `bbox_2d` holds the same) in
    `frame`; `target.boxes` is always in pixels of the original picture. Boxes with x1 >= x2 or y1 >= y2 are invalid and worth 0; the
    rest is clipped to the picture.

    Source: VLM-R1, arXiv 2504.07615 (IoU of one box; half-open pixels here, where its code counts inclusive ones).

    Known cheats: listing many boxes (surplus counts 0); several answers (the last counts); the whole picture as box (worth the
    object's share of the area; raise `floor` where objects are large); boxes far outside of the picture (clipped, an empty rest is
    invalid); swapped corners (invalid, not mended).
    """

    floor: Fraction = 0.0
    """An IoU below this counts as 0."""
    frame: Frame = "pixels"
    needs = ("text", "target.boxes")

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        scores, notes, marks, errors = [], [], [], []
        for rollout in rollouts:
            try:
                wanted = reference(rollout.sample.target)
                score, note, answered = self.grade(rollout, wanted)
                marks.append([*_marks(wanted, "wanted"), *_marks(answered[:MAX_BOXES], "answered")])
                errors.append(None)
            except DataError as error:
                score, note = float("nan"), ""
                marks.append([])
                errors.append(str(error))
            scores.append(score)
            notes.append(note)
        return RewardOutput(scores=torch.tensor(scores, dtype=torch.float64), notes=notes, marks=marks, errors=errors)

    def grade(self, rollout: Rollout, wanted: np.ndarray) -> tuple[float, str, np.ndarray]:
        """Score, note, and the valid answered boxes [A,4] in pixels."""
        answer = final_answer(rollout.text or "")
        if answer is None:
            return 0.0, "no <answer>...</answer>", np.zeros((0, 4))
        boxes = read_boxes(answer[0])
        count = len(boxes)
        if count == 0:
            return 0.0, "no box in the answer", boxes
        size = picture_size(rollout)
        if self.frame != "pixels" and size is None:
            raise DataError(f"the frame {self.frame!r} needs the picture or target.size")
        boxes = to_pixels(boxes[:MAX_BOXES], self.frame, size or (1, 1), rollout.sample.target.get("resized"))
        if size is not None:
            boxes = np.clip(boxes, 0, [*size, *size])
        boxes = boxes[valid(boxes)]
        iou = pairwise_iou(boxes, wanted)
        iou = np.where(iou >= self.floor, iou, 0.0)
        rows, columns = linear_sum_assignment(-iou)
        score = float(iou[rows, columns].sum()) / max(count, len(wanted))
        return score, f"IoU {score:.2f} of {count} answered and {len(wanted)} wanted", boxes


def reference(target: Any) -> np.ndarray:
    """`target.boxes` as [W,4]. Raises DataError naming the box that is wrong."""
    boxes = target["boxes"]
    if not isinstance(boxes, list | tuple) or not boxes:
        raise DataError(f"target.boxes is {boxes!r}, expected a list of [x1, y1, x2, y2]")
    for i, box in enumerate(boxes):
        numbers = isinstance(box, list | tuple) and all(isinstance(v, int | float) and math.isfinite(v) for v in box)
        if not numbers or len(box) != 4:
            got = f"{len(box)} numbers" if numbers else repr(box)
            raise DataError(f"target.boxes[{i}] has {got}, expected x1 y1 x2 y2 in pixels")
        if box[0] >= box[2] or box[1] >= box[3]:
            raise DataError(f"target.boxes[{i}] is {list(box)}, expected x1 < x2 and y1 < y2")
    return np.array(boxes, dtype=np.float64)


def picture_size(rollout: Rollout) -> tuple[float, float] | None:
    """(width, height) from `target.size`, else of the judged visual; None without either."""
    size = rollout.sample.target.get("size")
    if size is not None:
        if not isinstance(size, list | tuple) or len(size) != 2:
            raise DataError(f"target.size is {size!r}, expected [width, height]")
        return float(size[0]), float(size[1])
    return rollout.visual.size if rollout.visual is not None else None


def _marks(boxes: np.ndarray, role: Literal["answered", "wanted"]) -> list[Mark]:
    return [Mark(box=(float(b[0]), float(b[1]), float(b[2]), float(b[3])), role=role) for b in boxes]
