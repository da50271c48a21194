"""How much two boxes overlap, and what an overlap is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vlreward.config import Fraction
from vlreward.errors import ConfigError
from vlreward.rewards.base import Reward

Measure = Literal["iou", "giou", "diou", "ciou"]
LOWEST: dict[Measure, float] = {"iou": 0.0, "giou": -1.0, "diou": -1.0, "ciou": -1.5}
"""What no two boxes fall below: CIoU takes at most 1 for the distance of the centres and v^2 / (1 + v) <= 1/2 for the aspect ratio."""
STEPS = np.linspace(0.5, 0.95, 10)
"""The IoU thresholds of COCO."""


def valid(boxes: np.ndarray) -> np.ndarray:
    """[N] whether each box [N,4] is finite and has x1 < x2 and y1 < y2."""
    low, high = boxes[..., :2], boxes[..., 2:]
    sound = (low > -np.inf) & (low < high) & (high < np.inf)
    return sound[..., 0] & sound[..., 1]


def overlap(first: np.ndarray, second: np.ndarray, measure: Measure = "iou") -> np.ndarray:
    """The overlap of xyxy boxes [...,4] with boxes [...,4], which broadcast. At most 1; never NaN for finite boxes.

    iou: common area / joint area. giou (arXiv 1902.09630): minus the share of the enclosing box that neither covers. diou (arXiv
    1911.08287): minus the squared distance of the centres over the squared diagonal of the enclosing box. ciou (same): minus a term for
    the aspect ratio too. A term whose denominator is 0 (boxes without area) counts 0, where torchvision gives NaN.
    """
    x1, y1, x2, y2 = (first[..., i] for i in range(4))
    u1, v1, u2, v2 = (second[..., i] for i in range(4))
    wide, high = np.maximum(np.minimum(x2, u2) - np.maximum(x1, u1), 0), np.maximum(np.minimum(y2, v2) - np.maximum(y1, v1), 0)
    sides = [(np.maximum(right - left, 0), np.maximum(low - top, 0)) for left, top, right, low in ((x1, y1, x2, y2), (u1, v1, u2, v2))]
    common = wide * high
    joint = sides[0][0] * sides[0][1] + sides[1][0] * sides[1][1] - common
    iou = _ratio(common, joint)
    if measure == "iou":
        return iou
    hull = np.maximum(x2, u2) - np.minimum(x1, u1), np.maximum(y2, v2) - np.minimum(y1, v1)
    if measure == "giou":
        area = hull[0] * hull[1]
        return iou - _ratio(area - joint, area)
    apart = (x1 + x2 - u1 - u2) / 2, (y1 + y2 - v1 - v2) / 2
    diou = iou - _ratio(apart[0] ** 2 + apart[1] ** 2, hull[0] ** 2 + hull[1] ** 2)
    if measure == "diou":
        return diou
    aspect = 4 / np.pi**2 * (np.arctan2(*sides[0]) - np.arctan2(*sides[1])) ** 2
    return diou - _ratio(aspect * aspect, 1 - iou + aspect)


def pairwise_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[A,W] IoU of two sets of xyxy boxes; 0 where both have no area."""
    return overlap(first[:, None], second[None])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


@dataclass(kw_only=True)
class Graded(Reward):
    """Base of rewards that are made of overlaps in [0, 1]."""

    form: Literal["linear", "hit", "soft", "steps"] = "linear"
    """What an overlap is worth. linear: itself; hit: 1 from `floor` on; soft: (overlap - floor) / (1 - floor); steps: the share of the
    thresholds 0.50, 0.55 ... 0.95 that it reaches."""
    floor: Fraction = 0.0
    """An overlap below this counts as 0."""

    def __post_init__(self):
        if self.form == "hit" and self.floor == 0:
            raise ConfigError("is 0, which every answer reaches; the form 'hit' needs more, such as 0.5", "floor")
        if self.form == "soft" and self.floor == 1:
            raise ConfigError("is 1, which leaves nothing above it for the form 'soft'", "floor")

    def worth(self, overlap: np.ndarray) -> np.ndarray:
        """What overlaps of any shape are worth, in [0, 1]."""
        if self.form == "hit":
            value = np.ones_like(overlap)
        elif self.form == "soft":
            value = (overlap - self.floor) / (1 - self.floor)
        elif self.form == "steps":
            value = np.searchsorted(STEPS - 1e-12, overlap, side="right") / len(STEPS)
        else:
            value = overlap
        return np.where(overlap >= self.floor, value, 0.0) if self.floor else value
