"""Are the objects, counts, colours and relations that the prompt asks for in the picture?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from vlreward.config import Fraction
from vlreward.data.media import Clip, Picture
from vlreward.errors import DataError, RewardError
from vlreward.models.detector import Detection, Detector
from vlreward.models.shape_detector import ShapeDetector
from vlreward.registry import register
from vlreward.rewards.base import Reward
from vlreward.tiny.scene import relation_holds
from vlreward.types import Mark, RewardOutput, Rollout


@register("object_match")
@dataclass(kw_only=True)
class ObjectMatch(Reward):
    """Share of the prompt's demands that a detector finds fulfilled in the picture. In [0, 1].

    `target.objects` lists `{label, color?, count}` and `target.relations` `{subject, relation, object}` (indices into objects; left of,
    right of, above, below). The score is the mean of one term per object, one per relation and one for surplus:
    object, max(0, 1 - |found - wanted| / wanted); relation, 1 if it holds between the surest two; surplus, wanted / (wanted + surplus)
    over all objects, where anything found that was not asked for is surplus. `strict` gives 1 only where every term is 1.
    A clip is judged by its middle frame.

    Source: GenEval (arXiv 2310.11513) for the demands and the relation rule; the grading is ours, clamped, with a failed relation
    worth 0 (the public graded version gives it a half and lets the count term go negative).

    Known cheats: tiling the picture with the object (counted: count and surplus terms); objects too vague to be recognised, hoping to
    count for something or to hide a surplus (a wanted object must reach `at_least`, a surplus one counts from `surplus_at`);
    an empty picture (every object term is 0 and so is the surplus term where nothing wanted was found);
    fooling the one detector (not defended here: weigh in another judge, or hold one out).
    """

    detector: Detector = field(default_factory=ShapeDetector)
    at_least: Fraction = 0.6
    """Confidence from which a detection is an object."""
    surplus_at: Fraction = 0.4
    """Confidence from which a detection that nobody asked for counts as surplus."""
    strict: bool = False
    needs = ("visual", "target.objects")

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        pictures, errors = [], []
        for rollout in rollouts:
            try:
                picture = judged_picture(rollout)
                picture.pil  # noqa: B018 - decodes here, so that a broken file costs its own row only
                _demands(rollout.sample.target)
                errors.append(None)
            except DataError as error:
                picture = Picture(torch.ones(3, 8, 8))
                errors.append(str(error))
            pictures.append(picture)
        labels = [
            [o["label"] for o in rollout.sample.target["objects"]] if not e else [] for rollout, e in zip(rollouts, errors, strict=True)
        ]
        found = self.detector.detect(pictures, labels)
        scores, notes = [], []
        for i, (rollout, detections) in enumerate(zip(rollouts, found, strict=True)):
            score, note = float("nan"), ""
            if errors[i] is None:
                try:
                    score, note = self.grade(rollout.sample.target, detections)
                except RewardError as error:
                    errors[i] = str(error)
            scores.append(score)
            notes.append(note)
        marks = [[Mark(box=d.box, role="found", label=f"{d.color} {d.label} {d.score:.2f}".strip()) for d in ds] for ds in found]
        return RewardOutput(scores=torch.tensor(scores, dtype=torch.float64), notes=notes, errors=errors, marks=marks)

    def grade(self, target: Mapping[str, Any], detections: Sequence[Detection]) -> tuple[float, str]:
        """Score and note for one picture's detections."""
        objects, relations = _demands(target)
        left = sorted(detections, key=lambda d: -d.score)
        terms, note, surest = [], [], []
        wanted_total = found_total = 0
        for demand in objects:
            if "color" in demand:
                require_color(demand["label"], detections)
            sure = [d for d in left if d.score >= self.at_least and _fits(demand, d)]
            left = [d for d in left if d not in sure]
            wanted = demand.get("count", 1)
            terms.append(max(0.0, 1 - abs(len(sure) - wanted) / wanted))
            note.append(f"{len(sure)} of {wanted} {_name(demand)}")
            surest.append(sure)
            wanted_total += wanted
            found_total += min(len(sure), wanted)
        for relation in relations:
            a, b = surest[relation["subject"]], surest[relation["object"]]
            holds = bool(a) and bool(b) and relation_holds(relation["relation"], list(a[0].box), list(b[0].box))
            terms.append(float(holds))
            note.append(f"{relation['relation']}: {'yes' if holds else 'no'}")
        surplus = [d for d in left if d.score >= self.surplus_at]
        surplus_count = len(surplus) + sum(max(0, len(s) - o.get("count", 1)) for s, o in zip(surest, objects, strict=True))
        terms.append(wanted_total / (wanted_total + surplus_count) if found_total else 0.0)
        if surplus:
            note.append("not asked for: " + ", ".join(f"{d.color} {d.label}".strip() for d in surplus[:3]))
        score = float(min(terms) == 1.0) if self.strict else sum(terms) / len(terms)
        return score, "; ".join(note)


def judged_picture(rollout: Rollout) -> Picture:
    """What was made, else the sample's picture; of a clip the middle frame."""
    visual = rollout.visual
    if isinstance(visual, Clip):
        return visual.pictures[len(visual.tensor) // 2]
    assert visual is not None, "a reward on objects needs a visual"
    return visual


def _name(demand: Mapping[str, Any]) -> str:
    return f"{demand.get('color', '')} {demand['label']}".strip()


def _fits(demand: Mapping[str, Any], detection: Detection) -> bool:
    return detection.label == demand["label"] and demand.get("color", detection.color) == detection.color


def require_color(label: str, detections: Sequence[Detection]) -> None:
    """Raises RewardError if the detector found such an object and does not tell its colour."""
    if any(detection.label == label and not detection.color for detection in detections):
        raise RewardError("a colour is asked for and the detector tells none; wrap it: {kind: colored, of: {kind: zero_shot, ...}}")


def _demands(target: Mapping[str, Any]) -> tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]:
    """`objects` and `relations` of a target, checked."""
    objects, relations = target["objects"], target.get("relations") or ()
    if not isinstance(objects, Sequence) or not objects:
        raise DataError(f"target.objects is {objects!r}, expected a list of {{label, color, count}}")
    for i, demand in enumerate(objects):
        if not isinstance(demand, Mapping) or not isinstance(demand.get("label"), str):
            raise DataError(f"target.objects[{i}] is {demand!r}, expected a mapping with a 'label'")
        count = demand.get("count", 1)
        if not isinstance(count, int) or count < 1:
            raise DataError(f"target.objects[{i}].count is {count!r}, expected 1 or more")
    known = ("left of", "right of", "above", "below")
    for i, relation in enumerate(relations):
        if not isinstance(relation, Mapping) or relation.get("relation") not in known:
            raise DataError(f"target.relations[{i}] is {relation!r}, expected a relation among {', '.join(known)}")
        for end in ("subject", "object"):
            if relation.get(end) not in range(len(objects)):
                raise DataError(f"target.relations[{i}].{end} is {relation.get(end)!r}, expected an index below {len(objects)}")
    return objects, relations
