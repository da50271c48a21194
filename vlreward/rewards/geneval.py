"""GenEval's checks of a generated picture: objects, counts, colours, positions, and what must not be there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from vlreward.config import Count, Fraction
from vlreward.data.media import Picture
from vlreward.errors import DataError, RewardError
from vlreward.models.detector import Detection, Detector
from vlreward.models.shape_detector import ShapeDetector
from vlreward.registry import register
from vlreward.rewards.base import Reward
from vlreward.rewards.objects import judged_picture, require_color
from vlreward.types import Mark, RewardOutput, Rollout

RELATIONS = ("left of", "right of", "above", "below")


@register("geneval")
@dataclass(kw_only=True)
class GenEval(Reward):
    """1 if the picture passes every check of GenEval's metadata, else 0; or, `graded`, the share of checks passed. In [0, 1].

    `target.include` and `target.exclude` are those of a line of evaluation_metadata.jsonl: {class, count, color?, position?: [relation,
    index of an earlier include]}. An include asks for at least `count` objects, the surest `count` of which must have the colour and
    stand in the relation to all those of the other include; an exclude allows fewer than its `count`. A detection counts above
    `surer_than`, with `target.tag` "counting" above `counting_surer_than`. A clip is judged by its middle frame.

    `graded` is the mean of one term for each count, 1 - |found - wanted| / wanted, colour (likewise), position and exclude (0 or 1);
    colour and position are 0 where the count is not exact.

    Source: GenEval, arXiv 2310.11513, evaluate_images.py at djghosh13/geneval af4902f; `graded` after Flow-GRPO's reward server, where
    the count term falls below 0 (7 found for 3 give -0.33) and a wrong position adds a 1 beside its 0 (0.75 for two objects).

    Known cheats: more objects than asked for (free in GenEval but for its counting prompts; `graded` and `object_match` see them);
    a grid of clear copies on plain ground (the same; weigh in a judge of looks); colour by a wrong object nearby in the box (the
    detector's mask decides, if it gives one); fooling the one detector (hold out another).
    """

    detector: Detector = field(default_factory=ShapeDetector)
    graded: bool = False
    surer_than: Fraction = 0.3
    counting_surer_than: Fraction = 0.9
    most: Count = 16
    """Objects of a class that are looked at, the surest first."""
    margin: Fraction = 0.1
    """Share of two objects' summed sizes by which their distance is shortened before it says where they stand."""
    needs = ("visual", "target.include")

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        scores, notes = [float("nan")] * len(rollouts), [""] * len(rollouts)
        errors: list[str | None] = [None] * len(rollouts)
        pictures, labels = [], []
        for i, rollout in enumerate(rollouts):
            picture, asked = Picture(torch.ones(3, 8, 8)), []
            try:
                include, exclude = _checked(rollout.sample.target)
                asked = [check["class"] for check in (*include, *exclude)]
                picture = judged_picture(rollout)
                picture.pil  # noqa: B018 - decodes here, so that a broken file costs its own row only
            except DataError as error:
                errors[i], asked = str(error), []
            pictures.append(picture)
            labels.append(asked)
        found = self.detector.detect(pictures, labels)
        for i, rollout in enumerate(rollouts):
            if errors[i] is None:
                try:
                    scores[i], notes[i] = self.check(rollout.sample.target, found[i])
                except RewardError as error:
                    errors[i] = str(error)
        marks = [[Mark(box=d.box, role="found", label=f"{d.color} {d.label} {d.score:.2f}".strip()) for d in ds] for ds in found]
        return RewardOutput(scores=torch.tensor(scores, dtype=torch.float64), notes=notes, errors=errors, marks=marks)

    def check(self, target: Mapping[str, Any], detections: Sequence[Detection]) -> tuple[float, str]:
        """Score, and what is wrong, of one picture's detections."""
        include, exclude = _checked(target)
        bar = self.counting_surer_than if target.get("tag") == "counting" else self.surer_than
        sure = sorted((d for d in detections if d.score > bar), key=lambda d: -d.score)
        groups: list[list[Detection] | None] = []
        terms, wrong = [], []
        for check in include:
            wanted, of_class = check["count"], [d for d in sure if d.label == check["class"]][: self.most]
            terms.append(max(0.0, 1 - abs(len(of_class) - wanted) / wanted))
            chosen = of_class[:wanted]
            exact, passed = len(of_class) == wanted, len(chosen) == wanted
            if not passed:
                wrong.append(f"{len(of_class)} of {wanted} {check['class']}")
            if "color" in check:
                require_color(check["class"], of_class)
                right = sum(d.color == check["color"] for d in chosen)
                terms.append(right / wanted if exact else 0.0)
                if passed and right < wanted:
                    wrong.append(f"{right} of {wanted} {check['class']} {check['color']}")
                    passed = False
            if "position" in check:
                relation, other = check["position"]
                others = groups[other]
                holds = passed and others is not None and self._stand(relation, chosen, others)
                terms.append(float(holds and exact))
                if passed and not holds:
                    wrong.append(f"{check['class']} not {relation} {include[other]['class']}")
                passed = passed and holds
            groups.append(chosen if passed else None)
        for check in exclude:
            count = sum(d.label == check["class"] for d in sure)
            terms.append(float(min(count, self.most) < check["count"]))
            if not terms[-1]:
                wrong.append(f"{count} {check['class']}, fewer than {check['count']} allowed")
        return (sum(terms) / len(terms) if self.graded else float(not wrong)), "; ".join(wrong)

    def _stand(self, relation: str, first: Sequence[Detection], second: Sequence[Detection]) -> bool:
        return all(relation in relative_position(a.box, b.box, self.margin) for a in first for b in second)


def relative_position(first: Sequence[float], second: Sequence[float], margin: float = 0.1) -> set[str]:
    """Where box `first` stands to box `second` (xyxy): none, one or two of the four relations.

    The centres' distance in x and in y, each shortened by `margin` of the boxes' summed sizes, must be more than half of their whole
    distance.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    offset = (a[:2] + a[2:] - b[:2] - b[2:]) / 2
    size = np.abs(a[2:] - a[:2]) + np.abs(b[2:] - b[:2])
    shortened = np.sign(offset) * np.maximum(np.abs(offset) - margin * size, 0)
    if np.all(np.abs(shortened) < 1e-3):
        return set()
    dx, dy = shortened / np.linalg.norm(offset)
    holds = (dx < -0.5, dx > 0.5, dy < -0.5, dy > 0.5)
    return {relation for relation, true in zip(RELATIONS, holds, strict=True) if true}


def _checked(target: Mapping[str, Any]) -> tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]:
    """`include` and `exclude` of a target. Raises DataError naming what is wrong."""
    for name in ("include", "exclude"):
        checks = target.get(name, ())
        if not isinstance(checks, list | tuple) or (name == "include" and not checks):
            raise DataError(f"target.{name} is {checks!r}, expected a list of {{class, count, color?, position?}}")
        for i, check in enumerate(checks):
            here = f"target.{name}[{i}]"
            if not isinstance(check, Mapping) or not isinstance(check.get("class"), str):
                raise DataError(f"{here} is {check!r}, expected a mapping with a 'class'")
            if not isinstance(check.get("count"), int) or check["count"] < 1:
                raise DataError(f"{here}.count is {check.get('count')!r}, expected 1 or more")
            if "position" in check:
                place = check["position"]
                if not isinstance(place, list | tuple) or len(place) != 2 or place[0] not in RELATIONS or place[1] not in range(i):
                    raise DataError(f"{here}.position is {place!r}, expected [{' | '.join(RELATIONS)}, index of an earlier include]")
    return target["include"], target.get("exclude", ())
