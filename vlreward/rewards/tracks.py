"""Rewards on answered tracks: the boxes of moving things over the frames of a clip."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.answers import final_answer
from vlreward.rewards.boxes import check_boxes
from vlreward.rewards.frames import Framed
from vlreward.rewards.overlap import Graded, overlap, valid
from vlreward.rewards.parsing import box_of, read_labelled, read_objects
from vlreward.types import Rollout

MAX_TRACKS = 50
"""Tracks read from one answer; every further one counts as surplus without being matched."""
ALPHAS = np.arange(0.05, 0.99, 0.05)
"""The IoU thresholds over which HOTA is averaged."""


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """Several things' boxes over the F frames of a clip."""

    boxes: np.ndarray
    """[F,A,4] in pixels; NaN where a thing is absent or its box is invalid"""
    present: np.ndarray
    """[F,A] whether a box was given"""
    stray: np.ndarray
    """[A] boxes given beyond that: in no frame of the clip, or for a second time in a frame"""
    surplus: np.ndarray
    """[n] boxes of each track beyond MAX_TRACKS"""

    @property
    def lengths(self) -> np.ndarray:
        """[A] boxes of each track"""
        return self.present.sum(0) + self.stray


@dataclass(kw_only=True)
class TrackReward(Framed):
    """Base of rewards that compare answered tracks with `target.tubes`.

    An answer lists `{"frame": 0, "id": 1, "bbox_2d": [x1, y1, x2, y2]}` (`label` serves as id where there is none; without either all boxes
    are one track) or lines `frame 0: [x1, y1, x2, y2]`, `frame 0, id 1: [...]`; frames count from 0. `target.tubes` is
    [frame][thing] -> [x1, y1, x2, y2] in pixels, or null where the thing is not to be seen.
    """

    needs = ("text", "target.tubes")

    def one(self, rollout: Rollout) -> tuple[float, str]:
        wanted = wanted_tracks(rollout.sample.target["tubes"])
        x, y, width, height = self.scale(rollout)
        answer = final_answer(rollout.text or "")
        if answer is None:
            return 0.0, "no <answer>...</answer>"
        found = read_tracks(answer[0])
        if not found:
            return 0.0, "no box in the answer"
        return self.grade(laid_out(found, len(wanted.boxes), np.array([x, y, x, y]), np.array([width, height] * 2)), wanted)

    def grade(self, answered: Tracks, wanted: Tracks) -> tuple[float, str]:
        """Score and note."""
        raise NotImplementedError(f"{type(self).__name__} must define grade")


@register("tube_iou")
@dataclass(kw_only=True)
class TubeIoU(Graded, TrackReward):
    """Mean spatio-temporal IoU of answered and reference tubes, each matched at most once. In [0, 1].

    A tube is one thing's boxes over time. The IoU of two tubes is the sum over their common frames of the boxes' IoU, divided by the
    number of frames in either. The best one-to-one sum is divided by the larger of the two counts of tubes.

    Source: vIoU of VidSTG (arXiv 2001.06891) and HC-STVG (arXiv 2011.05049), extended to several tubes.

    Known cheats: boxes in every frame (a frame in which the thing is not seen lengthens the union); two boxes of a tube in one frame
    (both void, and the second lengthens the union); frames beyond the clip (same); many tubes (surplus counts 0).

    Example: {text: "<answer>frame 0: [0, 0, 4, 4]</answer>", target: {tubes: [[[0, 0, 4, 4]], [[0, 0, 4, 4]]]}} -> 0.5
    """

    def __post_init__(self):
        TrackReward.__post_init__(self)
        Graded.__post_init__(self)

    def grade(self, answered: Tracks, wanted: Tracks) -> tuple[float, str]:
        shared = overlap(answered.boxes[:, :, None], wanted.boxes[:, None]).sum(0)
        frames = (answered.present[:, :, None] | wanted.present[:, None]).sum(0) + answered.stray[:, None]
        value = self.worth(shared / frames)
        most = max(value.shape[0] + len(answered.surplus), value.shape[1])
        score = float(value[linear_sum_assignment(value, maximize=True)].sum()) / most
        return score, f"tube IoU {score:.2f} of {value.shape[0]} answered and {value.shape[1]} wanted"


@register("hota")
@dataclass(kw_only=True)
class Hota(TrackReward):
    """Tracking quality: detection and association in equal parts, averaged over IoU thresholds from 0.05 to 0.95. In [0, 1].

    At each threshold HOTA is sqrt(DetA * AssA): DetA = matched boxes / boxes in either, AssA = the mean over matched boxes of how far
    the two tracks they belong to agree. Frames are matched so that boxes of tracks that agree over the whole clip come first. What the
    ids are called does not matter.

    Source: HOTA, arXiv 2009.07736.

    Known cheats: a new id in every frame, or one id for all (AssA falls); boxes everywhere (DetA falls); a box for a second time in a
    frame under one id (both void); a clip of one frame has nothing to associate, so HOTA is then a matter of detection only.

    Example: {text: "<answer>frame 0: [0, 0, 4, 4]</answer>", target: {tubes: [[[0, 0, 4, 4]], [[0, 0, 4, 4]]]}} -> 0.5
    """

    def grade(self, answered: Tracks, wanted: Tracks) -> tuple[float, str]:
        score, detection, association = hota(answered, wanted)
        return score, f"HOTA {score:.2f}: detection {detection:.2f}, association {association:.2f}"


def hota(answered: Tracks, wanted: Tracks) -> tuple[float, float, float]:
    """HOTA, DetA and AssA, each averaged over ALPHAS."""
    similarity = overlap(answered.boxes[:, :, None], wanted.boxes[:, None])
    either = similarity.sum(1, keepdims=True) + similarity.sum(2, keepdims=True) - similarity
    agreement = np.divide(similarity, either, out=np.zeros_like(similarity), where=either > 0).sum(0)
    lengths = answered.lengths[:, None] + wanted.lengths[None]
    alignment = agreement / (lengths - agreement)
    matches = [(*linear_sum_assignment(alignment * frame, maximize=True), frame) for frame in similarity]
    first, second = (np.concatenate([match[side] for match in matches]) for side in (0, 1))
    reached = np.concatenate([frame[rows, columns] for rows, columns, frame in matches]) >= ALPHAS[:, None] - 1e-12
    joint = np.zeros((len(ALPHAS), *alignment.shape))
    level, match = np.nonzero(reached)
    np.add.at(joint, (level, first[match], second[match]), 1)
    hits = joint.sum((1, 2))
    detection = hits / (answered.lengths.sum() + answered.surplus.sum() + wanted.lengths.sum() - hits)
    association = (joint * joint / (lengths - joint)).sum((1, 2)) / np.maximum(hits, 1)
    return float(np.sqrt(detection * association).mean()), float(detection.mean()), float(association.mean())


def read_tracks(answer: str) -> list[tuple[int | None, str, list[float]]]:
    """(frame, id, box) of every box of an answer; the frame is None where none is named, and the box NaN where it cannot be read."""
    objects = read_objects(answer)
    if objects:
        return [(_frame(entry.get("frame")), str(entry.get("id", entry.get("label", ""))), box_of(entry)) for entry in objects]
    found = []
    labels, boxes, _ = read_labelled([answer])
    for label, box in zip(labels, boxes.tolist(), strict=True):
        numbers = re.findall(r"\d+", label)[:2]
        found.append((_frame(float(numbers[0])) if numbers else None, numbers[1] if len(numbers) > 1 else "", box))
    return found


def laid_out(found: list[tuple[int | None, str, list[float]]], frames: int, scale: np.ndarray, limit: np.ndarray) -> Tracks:
    """Boxes that were read as tracks over a clip, brought to pixels by `scale` [4] and clipped to [0, `limit` [4]]."""
    with np.errstate(over="ignore"):  # a number near the largest float becomes infinite, which is cut off here
        pixels = np.clip(np.array([box for _, _, box in found]) * scale, 0, limit)
    pixels = np.where(valid(pixels)[:, None], pixels, np.nan)
    tracks: dict[str, list[tuple[int, list[float]]]] = {}
    for (frame, name, _), box in zip(found, np.nan_to_num(pixels, nan=-1).tolist(), strict=True):
        tracks.setdefault(name, []).append((-1 if frame is None or frame >= frames else frame, box))
    ordered = sorted((sorted(track) for track in tracks.values()), key=lambda track: (-len(track), track))
    kept = ordered[:MAX_TRACKS]
    boxes, present = np.full((frames, len(kept), 4), np.nan), np.zeros((frames, len(kept)), dtype=bool)
    stray = np.zeros(len(kept), dtype=np.int64)
    for column, track in enumerate(kept):
        for frame, box in track:
            if frame < 0:
                stray[column] += 1
            elif present[frame, column]:
                stray[column] += 1
                boxes[frame, column] = np.nan
            else:
                present[frame, column] = True
                boxes[frame, column] = box if box[0] >= 0 else np.nan
    return Tracks(boxes=boxes, present=present, stray=stray, surplus=np.array([len(track) for track in ordered[MAX_TRACKS:]], dtype=int))


def wanted_tracks(tubes: Any) -> Tracks:
    """`target.tubes` as tracks. Raises DataError."""
    things = len(tubes[0]) if isinstance(tubes, list | tuple) and tubes and isinstance(tubes[0], list | tuple) else 0
    if not things:
        raise DataError("target.tubes is empty, expected [frame][thing] -> [x1, y1, x2, y2] or null")
    boxes = np.full((len(tubes), things, 4), np.nan)
    for frame, row in enumerate(tubes):
        if not isinstance(row, list | tuple) or len(row) != things:
            raise DataError(f"target.tubes[{frame}] is {row!r}, expected {things} boxes or null, as in the first frame")
        check_boxes([box for box in row if box is not None], empty=True, name=f"tubes[{frame}]")
        for thing, box in enumerate(row):
            if box is not None:
                boxes[frame, thing] = box
    present = np.isfinite(boxes[..., 0])
    if not present.any(0).all():
        raise DataError("target.tubes holds a thing that no frame shows")
    return Tracks(boxes=boxes, present=present, stray=np.zeros(things, dtype=int), surplus=np.zeros(0, dtype=int))


def _frame(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e9 and value == int(value) else None
