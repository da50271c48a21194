"""What a detector sees of a clip's things: do they move as the prompt says, smoothly, and are they there all the time?"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from vlreward.config import Fraction, Positive
from vlreward.data.media import Clip, Picture
from vlreward.errors import DataError, RewardError
from vlreward.models.detector import Detection, Detector
from vlreward.models.shape_detector import ShapeDetector
from vlreward.registry import register
from vlreward.rewards.base import Reward
from vlreward.rewards.objects import require_color
from vlreward.types import RewardOutput, Rollout

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
Found = Sequence[Sequence[Detection]]
"""[frame] what was found there"""
Kind = tuple[str, str | None]
"""Label and color (None is any)."""


@dataclass(kw_only=True)
class Watched(Reward):
    """Base of rewards that go by a detector's findings in every frame of a clip; a picture is a clip of one frame."""

    detector: Detector = field(default_factory=ShapeDetector)
    at_least: Fraction = 0.6
    """Confidence from which a detection is a thing."""

    def demands(self, target: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """What the target asks for, checked; each has a `label`. Raises DataError."""
        raise NotImplementedError(f"{type(self).__name__} must define demands")

    def grade(self, target: Mapping[str, Any], clip: Found, size: tuple[int, int]) -> tuple[float, str]:
        """Score and note; `size` is (width, height) in pixels."""
        raise NotImplementedError(f"{type(self).__name__} must define grade")

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        frames: list[list[Picture]] = []
        asked: list[list[str]] = []
        errors: list[str | None] = []
        for rollout in rollouts:
            try:
                pictures, error = frames_of(rollout), None
                pictures[0].pil  # noqa: B018 - decodes here, so that a broken file costs its own row only
                labels = [demand["label"] for demand in self.demands(rollout.sample.target)]
            except DataError as failure:
                pictures, labels, error = [], [], str(failure)
            frames.append(pictures)
            asked.append(labels)
            errors.append(error)
        labels = [wanted for wanted, pictures in zip(asked, frames, strict=True) for _ in pictures]
        found = iter(self.detector.detect([picture for pictures in frames for picture in pictures], labels))
        scores, notes = [], []
        for row, rollout in enumerate(rollouts):
            clip, (score, note) = [next(found) for _ in frames[row]], (float("nan"), "")
            if errors[row] is None:
                try:
                    score, note = self.grade(rollout.sample.target, clip, frames[row][0].size)
                except RewardError as error:
                    errors[row] = str(error)
            scores.append(score)
            notes.append(note)
        return RewardOutput(scores=torch.tensor(scores, dtype=torch.float64), notes=notes, errors=errors)

    def sure(self, clip: Found, kind: Kind) -> list[list[Detection]]:
        """[frame] the things of a kind. Raises RewardError where a color is asked for and the detector tells none."""
        if kind[1] is not None:
            for frame in clip:
                require_color(kind[0], frame)
        return [[d for d in frame if d.score >= self.at_least and fits(kind, d)] for frame in clip]

    def path(self, clip: Found, kind: Kind, size: tuple[int, int]) -> list[np.ndarray | None]:
        """[frame] centre (x, y) of the surest thing of a kind, as shares of the clip's sides; None where there is none."""
        out: list[np.ndarray | None] = []
        for frame in self.sure(clip, kind):
            box = np.asarray(max(frame, key=lambda d: d.score).box, dtype=np.float64) if frame else None
            out.append(None if box is None else (box[:2] + box[2:]) / 2 / np.asarray(size))
        return out


@register("motion_match")
@dataclass(kw_only=True)
class MotionMatch(Watched):
    """Share of the prompt's demands on moving things that a detector finds fulfilled in a clip. In [0, 1].

    `target.motions` lists `{label, color?, direction}` (left, right, up, down, or still). The score is the mean of two terms a thing and
    one for surplus: presence, the share of frames in which exactly as many such things are found as are asked for; motion, the mean over
    steps from frame to frame of how far it goes along the direction, less how far to the side, in units of `pace` and within [-1, 1], no
    less than 0 in all (for still: 1 less the whole step in units of `pace`); surplus, mean over frames of wanted / (wanted + surplus), 0
    where nothing wanted is found. A step in which the thing is not found at both ends counts 0. Things of one kind with different
    directions are not told apart: the surest of a frame is followed. A picture is a clip of one frame, which moves nothing.

    Source: ours; the terms are those of object_match (GenEval, arXiv 2310.11513), with a direction as in T2V-CompBench (arXiv 2407.14505),
    which asks of a tracked thing that it end up there.

    Known cheats: to stand still, where everything is drawn best (no motion term); to jump once (each step counts at most 1); to tremble
    to and fro (steps back count against); to drift off at an angle (subtracted); several copies along the way (presence and surplus);
    fooling the one detector (not defended here: hold another one out).
    """

    surplus_at: Fraction = 0.4
    """Confidence from which a detection that nobody asked for counts as surplus."""
    pace: Positive = 0.06
    """Share of the clip's side that a full step covers."""
    needs = ("visual", "target.motions")

    def demands(self, target: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        return checked(target, "motions", direction)

    def grade(self, target: Mapping[str, Any], clip: Found, size: tuple[int, int]) -> tuple[float, str]:
        demands = self.demands(target)
        kinds = [kind_of(demand) for demand in demands]
        sure = {kind: self.sure(clip, kind) for kind in kinds}
        terms, notes = [], []
        for demand, kind in zip(demands, kinds, strict=True):
            present = sum(len(frame) == kinds.count(kind) for frame in sure[kind])
            motion = self._motion(self.path(clip, kind, size), demand["direction"])
            terms += [present / len(clip), motion]
            notes.append(f"{name_of(kind)} in {present} of {len(clip)} frames, {demand['direction']}: {motion:.2f}")
        kept = 0.0
        for place, frame in enumerate(clip):
            others = sum(d.score >= self.surplus_at and not any(fits(kind, d) for kind in sure) for d in frame)
            more = others + sum(max(0, len(sure[kind][place]) - kinds.count(kind)) for kind in sure)
            if any(sure[kind][place] for kind in sure):
                kept += len(demands) / (len(demands) + more)
        terms.append(kept / len(clip))
        return sum(terms) / len(terms), "; ".join(notes)

    def _motion(self, path: Sequence[np.ndarray | None], direction: str) -> float:
        """In [0, 1]"""
        steps = []
        for before, after in itertools.pairwise(path):
            if before is None or after is None:
                steps.append(0.0)
                continue
            step = (after - before) / self.pace
            if direction == "still":
                steps.append(max(0.0, 1 - float(np.linalg.norm(step))))
                continue
            way = np.asarray(DIRECTIONS[direction], dtype=np.float64)
            along, aside = float(step @ way), float(np.abs(step[way == 0]).sum())
            steps.append(min(1.0, max(-1.0, along - aside)))
        return max(0.0, sum(steps) / len(steps)) if steps else float(direction == "still")


@register("motion_smoothness")
@dataclass(kw_only=True)
class MotionSmoothness(Watched):
    """How evenly the things of a clip move, mean over the kinds in `target.objects`. In [0, 1].

    Of each kind's surest thing, over runs of three frames in which it is found: 1 less the summed length of the changes of its step over
    the summed length of its steps, no less than 0; times the share of such runs; and 0 where its steps are shorter than `least` on
    average. NaN for fewer than three frames.

    Source: the idea of the motion smoothness of VBench (arXiv 2311.17982), that a frame follow from its neighbours, on a detector's
    tracks instead of an interpolation network; `least` stands for its dynamic degree.

    Known cheats: standing still (`least`); trembling and jumping (changes as long as the steps leave 0); vanishing (the share of runs);
    which way a thing goes does not count (use `motion_match`).
    """

    least: Fraction = 0.01
    """Share of the clip's side."""
    needs = ("visual", "target.objects")

    def demands(self, target: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        return checked(target, "objects", count)

    def grade(self, target: Mapping[str, Any], clip: Found, size: tuple[int, int]) -> tuple[float, str]:
        if len(clip) < 3:
            return float("nan"), ""
        scores = [self._smoothness(self.path(clip, kind_of(demand), size)) for demand in self.demands(target)]
        return sum(scores) / len(scores), ""

    def _smoothness(self, path: Sequence[np.ndarray | None]) -> float:
        """In [0, 1]"""
        runs = [(a, b, c) for a, b, c in zip(path, path[1:], path[2:]) if a is not None and b is not None and c is not None]
        length = sum(float(np.linalg.norm(b - a) + np.linalg.norm(c - b)) / 2 for a, b, c in runs)
        if not runs or length / len(runs) < self.least:
            return 0.0
        change = sum(float(np.linalg.norm(c - 2 * b + a)) for a, b, c in runs)
        return max(0.0, 1 - change / length) * len(runs) / (len(path) - 2)


@register("count_over_time")
@dataclass(kw_only=True)
class CountOverTime(Watched):
    """Whether as many things are there as are asked for, all the time, mean over the demands of `target.objects`. In [0, 1].

    Of each `{label, color?, count}`: the mean over frames of max(0, 1 - |found - wanted| / max(wanted, 1)), times the share of steps from
    frame to frame at which the count changes as asked, if at all. `count` may be a list, of which each entry holds for an equal part of
    the clip: `[1, 1, 2]`. A picture is a clip of one frame.

    Source: ours; the grading is that of object_match, over frames.

    Known cheats: things that flicker in and out (the second factor); others that nobody asked for (not counted here: weigh in
    `per_frame` of `object_match`, or `motion_match`); fooling the one detector.
    """

    needs = ("visual", "target.objects")

    def demands(self, target: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        return checked(target, "objects", count)

    def grade(self, target: Mapping[str, Any], clip: Found, size: tuple[int, int]) -> tuple[float, str]:
        scores, notes = [], []
        for demand in self.demands(target):
            given = demand.get("count", 1)
            counts = given if isinstance(given, Sequence) else [given]
            wanted = [counts[place * len(counts) // len(clip)] for place in range(len(clip))]
            found = [len(frame) for frame in self.sure(clip, kind_of(demand))]
            right = sum(max(0.0, 1 - abs(f - w) / max(w, 1)) for f, w in zip(found, wanted, strict=True)) / len(clip)
            steps = list(zip(itertools.pairwise(found), itertools.pairwise(wanted), strict=True))
            steady = sum(b - a == d - c for (a, b), (c, d) in steps) / len(steps) if steps else 1.0
            scores.append(right * steady)
            notes.append(f"{name_of(kind_of(demand))}: {' '.join(map(str, found))} of {' '.join(map(str, wanted))}")
        return sum(scores) / len(scores), "; ".join(notes)


def frames_of(rollout: Rollout) -> list[Picture]:
    """The pictures of what is judged; a single picture is one frame."""
    visual = rollout.visual
    assert visual is not None, "a reward on clips needs a visual"
    return visual.pictures if isinstance(visual, Clip) else [visual]


def kind_of(demand: Mapping[str, Any]) -> Kind:
    return demand["label"], demand.get("color")


def name_of(kind: Kind) -> str:
    return f"{kind[1] or ''} {kind[0]}".strip()


def fits(kind: Kind, detection: Detection) -> bool:
    return detection.label == kind[0] and kind[1] in (None, detection.color)


def direction(demand: Mapping[str, Any]) -> str | None:
    """What is wrong with a demand's direction."""
    given = demand.get("direction")
    return None if given in (*DIRECTIONS, "still") else f"direction is {given!r}, expected one of {', '.join(DIRECTIONS)}, still"


def count(demand: Mapping[str, Any]) -> str | None:
    """What is wrong with a demand's count."""
    given = demand.get("count", 1)
    several = given if isinstance(given, list | tuple) else [given]
    good = several and all(isinstance(number, int) and number >= 0 for number in several)
    return None if good else f"count is {given!r}, expected a number or a list of numbers, one for each part of the clip"


def checked(target: Mapping[str, Any], key: str, wrong: Callable[[Mapping[str, Any]], str | None]) -> Sequence[Mapping[str, Any]]:
    """The list `key` of a target, each with a label and nothing `wrong`. Raises DataError."""
    demands = target[key]
    if not isinstance(demands, list | tuple) or not demands:
        raise DataError(f"target.{key} is {demands!r}, expected a list of mappings with a 'label'")
    for i, demand in enumerate(demands):
        if not isinstance(demand, Mapping) or not isinstance(demand.get("label"), str):
            raise DataError(f"target.{key}[{i}] is {demand!r}, expected a mapping with a 'label'")
        if problem := wrong(demand):
            raise DataError(f"target.{key}[{i}].{problem}")
    return demands
