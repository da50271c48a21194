"""COCO's mean average precision of answered detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlreward.config import Fraction
from vlreward.registry import register
from vlreward.rewards.detection import DetectionReward
from vlreward.rewards.matching import Pairs
from vlreward.rewards.overlap import STEPS, overlap
from vlreward.types import RewardOutput, Rollout


@register("detection_map")
@dataclass(kw_only=True)
class DetectionMap(DetectionReward):
    """COCO's mean average precision of one picture's boxes, with all of them equally sure. In [0, 1].

    Boxes that a language model writes carry no confidence. COCO's code then takes the order in which they are listed for one, and its AP
    depends on it. Here a tie is a tie: the precision-recall curve has a single point, and AP is its precision times the share of COCO's
    101 recall levels that it reaches, which is what COCO's code gives where the false boxes come first. That is averaged over the IoU
    thresholds 0.50, 0.55 ... 0.95 (or taken `at` one of them, 0.5 for AP50) and over every class that is wanted or answered. Nothing
    wanted and 'none' answered is 1. `length` multiplies by wanted / answered where more is answered than wanted.

    Source: COCO (arXiv 1405.0312); as a reward, `od` and `odLength` of VLM-R1, arXiv 2504.07615.

    Known cheats: false boxes at the end of the list, which are free in COCO's code once all is found (every box counts here); boxes of
    classes that the reference does not have, which COCO's code ignores (such a class has AP 0 and enters the mean); many boxes (the
    precision falls; more with `length`); copies of a right box (false from the second on).

    Example: {text: '<answer>[{"bbox_2d": [0, 0, 4, 4], "label": "cat"}]</answer>', target: {boxes: [[0, 0, 4, 4]], labels: [cat]}} -> 1
    """

    at: Fraction | None = None
    """One IoU threshold in place of COCO's ten."""
    length: bool = False

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        case = self.detections(rollouts)
        levels = STEPS if self.at is None else np.array([self.at])
        sides = (case.listed, case.answered, case.wanted)
        labels = np.concatenate([np.zeros(len(side.xyxy), dtype=np.int64) if side.labels is None else side.labels for side in sides])
        names, codes = np.unique(labels, return_inverse=True)
        groups, place = np.unique(np.concatenate([side.rows for side in sides]) * len(names) + codes, return_inverse=True)
        listed, answered, wanted = np.split(place, np.cumsum([len(side.xyxy) for side in sides])[:2])
        num_listed, num_wanted = (np.bincount(group, minlength=len(groups)) for group in (listed, wanted))
        first, second = case.answered.xyxy[np.argsort(answered)], case.wanted.xyxy[np.argsort(wanted)]
        pairs = Pairs.of(np.bincount(answered, minlength=len(groups)), num_wanted)
        iou = overlap(first[pairs.answered], second[pairs.wanted])
        total = np.zeros(len(groups))
        for level in levels:
            matched = pairs.match(((iou >= level - 1e-12) & (iou > 0)).astype(np.float64))
            found = np.bincount(pairs.rows[matched], minlength=len(groups))
            recalled = np.where(found > 0, np.floor(100 * found / np.maximum(num_wanted, 1) + 1e-9) + 1, 0) / 101
            total += found / np.maximum(num_listed, 1) * recalled
        precision = total / len(levels)
        rows = groups // max(len(names), 1)
        classes = np.bincount(rows, minlength=len(rollouts))
        scores = np.bincount(rows, precision, minlength=len(rollouts)) / np.maximum(classes, 1)
        if self.length:
            scores = scores * np.minimum(1, case.wanted.counts / np.maximum(case.written, 1))
        scores = np.where(self.agreed(case), 1.0, scores)

        def note(row: int) -> str:
            if not case.written[row]:
                return case.nothing(row)
            return f"mAP {scores[row]:.2f} of {case.written[row]} answered and {case.wanted.counts[row]} wanted, {classes[row]} classes"

        return case.output(scores, note)
