"""Rewards on answered detections: boxes with labels."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from vlreward.config import Fraction, Positive
from vlreward.registry import register
from vlreward.rewards.answers import final_answer, normalize
from vlreward.rewards.base import Reward
from vlreward.rewards.boxes import MAX_BOXES, BoxAnswers, BoxReward, answer_texts, wanted_boxes
from vlreward.rewards.matching import Boxes, Pairs
from vlreward.rewards.overlap import overlap
from vlreward.rewards.parsing import box_of, label_of, read_labelled, says_none, unfenced
from vlreward.types import RewardOutput, Rollout


@dataclass(kw_only=True)
class DetectionReward(BoxReward):
    """Base of rewards that match labelled boxes with `target.boxes` and `target.labels`.

    Answers are JSON objects `{"bbox_2d": [x1, y1, x2, y2], "label": "..."}`, or boxes with their label before them. A picture without
    objects has an empty `target.boxes`, which 'none' or `[]` answers, and nothing else does.
    """

    classes: bool = True
    """Whether labels must be equal, up to case and spaces; without, `target.labels` is not needed."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Answered label -> the label that it stands for, such as tv: television."""
    needs = ("text", "target.boxes", "target.labels")

    def __post_init__(self):
        super().__post_init__()
        self._aliases = {normalize(name): normalize(label) for name, label in self.aliases.items()}
        if not self.classes:
            self.needs = ("text", "target.boxes")  # type: ignore[misc]

    def detections(self, rollouts: Sequence[Rollout]) -> BoxAnswers:
        """The labelled boxes of B answers and targets."""
        texts = answer_texts(rollouts)
        labels, numbers, counts = read_labelled([text or "" for text in texts])
        codes = self._codes(labels) if self.classes else None
        listed = Boxes(xyxy=numbers, counts=counts, labels=codes)
        return self.framed(rollouts, texts, listed, empty=True)

    def wanted(self, rollouts: Sequence[Rollout], empty: bool) -> tuple[Boxes, list[str | None]]:
        boxes, errors = wanted_boxes(rollouts, empty)
        if self.classes:
            names: list[str] = []
            for i, (rollout, count) in enumerate(zip(rollouts, boxes.counts.tolist(), strict=True)):
                labels = rollout.sample.target["labels"]
                if errors[i] is None and (not _texts(labels) or len(labels) != count):
                    errors[i] = f"target.labels is {labels!r}, expected a text for each of the {count} boxes"
                names += [""] * count if errors[i] else labels
            boxes.labels = self._codes(names)
        return boxes, errors

    def pairs(self, case: BoxAnswers) -> tuple[Pairs, np.ndarray]:
        """All pairs and their IoU [P], 0 where the labels differ."""
        pairs = Pairs.of(case.answered.counts, case.wanted.counts)
        iou = overlap(case.answered.xyxy[pairs.answered], case.wanted.xyxy[pairs.wanted])
        first, second = case.answered.labels, case.wanted.labels
        if first is not None and second is not None:
            iou = iou * (first[pairs.answered] == second[pairs.wanted])
        return pairs, iou

    def hits(self, case: BoxAnswers, at: float) -> tuple[np.ndarray, np.ndarray]:
        """[B] how many boxes are found with an IoU of `at` or more, and [B] the sum of their IoU.

        Of all matchings the one with most pairs, and of those the one with the highest sum; a box is matched at most once.
        """
        pairs, iou = self.pairs(case)
        matched = pairs.match(np.where((iou >= at) & (iou > 0), MAX_BOXES + iou, 0.0))
        rows = pairs.rows[matched]
        found = np.bincount(rows, minlength=len(case.texts)).astype(np.float64)
        return found, np.bincount(rows, iou[matched], minlength=len(case.texts))

    def agreed(self, case: BoxAnswers) -> np.ndarray:
        """[B] whether there was nothing to find and the answer says so."""
        nothing = (case.wanted.counts == 0) & (case.written == 0)
        return np.array([bool(none) and says_none(text or "") for none, text in zip(nothing, case.texts, strict=True)])

    def _codes(self, labels: Sequence[str]) -> np.ndarray:
        """[N] numbers that are equal where labels are"""
        names = {label: _plain(label) for label in set(labels)}
        codes = {label: _digest(self._aliases.get(name, name)) for label, name in names.items()}
        return np.fromiter(map(codes.__getitem__, labels), np.int64, len(labels))


@dataclass(kw_only=True)
class MatchedReward(DetectionReward):
    """Base of detection rewards that are made of how many boxes were found and how well."""

    at: Fraction = 0.5
    """The IoU from which a box is found."""

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        case = self.detections(rollouts)
        found, iou = self.hits(case, self.at)
        written, wanted = case.written.astype(np.float64), case.wanted.counts.astype(np.float64)
        some = (written > 0) & (wanted > 0)
        scores = np.where(some, self.grade(found, iou, np.where(some, written, 1), np.where(some, wanted, 1)), self.agreed(case))

        def note(row: int) -> str:
            if not written[row]:
                return case.nothing(row)
            return f"found {found[row]:.0f} of {wanted[row]:.0f} with {written[row]:.0f} boxes, IoU {iou[row] / max(found[row], 1):.2f}"

        return case.output(scores, note)

    def grade(self, found: np.ndarray, iou: np.ndarray, written: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """[B] scores from how many boxes were found, the sum of their IoU, and how many were written and wanted (both > 0)"""
        raise NotImplementedError(f"{type(self).__name__} must define grade")


@register("detection_f1")
@dataclass(kw_only=True)
class DetectionF1(MatchedReward):
    """F1 of answered against reference boxes, each matched at most once. In [0, 1].

    2 * found / (answered + wanted), where a box is found if one of its label overlaps it by `at` or more. `soft` takes the sum of IoU
    of the found ones for their number, which makes it the panoptic quality. Nothing wanted and 'none' answered is 1.

    Source: F1 over a Hungarian matching; panoptic quality, arXiv 1801.00868.

    Known cheats: many boxes (each surplus one lowers the precision; only 100 are matched at all); the same box under several labels
    (only one can match); boxes without a label (match nothing); prose in place of an empty list (0, only 'none' or `[]` says nothing).

    Example: {text: '<answer>[{"bbox_2d": [0, 0, 4, 4], "label": "cat"}]</answer>', target: {boxes: [[0, 0, 4, 4]], labels: [cat]}} -> 1
    """

    soft: bool = False

    def grade(self, found: np.ndarray, iou: np.ndarray, written: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        return 2 * (iou if self.soft else found) / (written + wanted)


@register("detection_score")
@dataclass(kw_only=True)
class DetectionScore(MatchedReward):
    """Weighted mean of position (IoU per wanted box) and completeness (few missed, few made up). In [0, 1].

    Completeness is 1 - (share of wanted boxes missed + share of answered boxes that match none) / 2; an answer without boxes is worth 0.

    Source: `weighted_sum` of VLM-R1, arXiv 2504.07615 (weights 0.7 and 0.3 of its code, whose weight for labels is 0).

    Known cheats: right boxes with wrong labels (in the published code they keep the whole completeness, up to 0.3; here such a box is
    both missed and made up); boxes without labels (there a NameError or the label before; here they match nothing); many boxes (the
    false ones cost completeness, at most 0.15 of the score, so prefer `detection_f1` where answers grow long).

    Example: {text: '<answer>[{"bbox_2d": [0, 0, 4, 4], "label": "cat"}]</answer>', target: {boxes: [[0, 0, 4, 4]], labels: [cat]}} -> 1
    """

    position: Positive = 0.7
    completeness: Positive = 0.3

    def grade(self, found: np.ndarray, iou: np.ndarray, written: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        complete = 1 - ((wanted - found) / wanted + (written - found) / written) / 2
        return (self.position * iou / wanted + self.completeness * complete) / (self.position + self.completeness)


@register("precision_recall")
@dataclass(kw_only=True)
class PrecisionRecall(MatchedReward):
    """Weighted mean of the precision and the recall of answered boxes. In [0, 1].

    arithmetic: w * P + (1 - w) * R with w = `precision`. harmonic: 1 / (w / P + (1 - w) / R), which is F-beta with w = 1 / (1 + beta^2)
    and 0 where nothing is found.

    Source: the weighted precision-recall accuracy of DIP-R1, arXiv 2505.23179; its weights are not public, 0.5 is ours.

    Known cheats: flooding the picture with boxes, whose recall survives in an arithmetic mean, up to 1 - w (only 100 boxes are matched;
    take `mean: harmonic`, or a larger w); a single sure box, whose precision survives likewise, up to w (harmonic again).

    Example: {text: '<answer>[{"bbox_2d": [0, 0, 4, 4], "label": "cat"}]</answer>', target: {boxes: [[0, 0, 4, 4]], labels: [cat]}} -> 1
    """

    precision: Fraction = 0.5
    mean: Literal["arithmetic", "harmonic"] = "arithmetic"

    def grade(self, found: np.ndarray, iou: np.ndarray, written: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        if self.mean == "arithmetic":
            return self.precision * found / written + (1 - self.precision) * found / wanted
        return found / (self.precision * written + (1 - self.precision) * wanted)


@register("complete_detection")
@dataclass(kw_only=True)
class CompleteDetection(MatchedReward):
    """Half F1, half the mean IoU of the boxes found times the completeness. In [0, 1].

    Completeness is the number found over the larger of answered and wanted.

    Source: the comprehensive detection reward (completeness and accuracy) of RT-RMOT, arXiv 2602.22033; its formula is not public, this
    parametrisation is ours.

    Known cheats: one sure box (F1 and completeness fall); filling up to the right number with wrong boxes, which a completeness of
    counts alone would pay (only boxes that are found count); many boxes (both halves fall).

    Example: {text: '<answer>[{"bbox_2d": [0, 0, 4, 4], "label": "cat"}]</answer>', target: {boxes: [[0, 0, 4, 4]], labels: [cat]}} -> 1
    """

    def grade(self, found: np.ndarray, iou: np.ndarray, written: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        return found / (written + wanted) + iou / np.maximum(written, wanted) / 2


@register("detection_format")
@dataclass(kw_only=True)
class DetectionFormat(Reward):
    """Share of well-formed entries in the answered JSON list of detections; 0 if the answer is no JSON list. In [0, 1].

    An entry is `{"bbox_2d": [x1, y1, x2, y2], "label": "..."}` with x1 < x2 and y1 < y2 and, if `labels`, a label; an empty list is well
    formed. The answer is the last `<answer>...</answer>`, the list may stand in a ```json fence, nothing else may.

    Source: the structured output reward of RT-RMOT, arXiv 2602.22033 (its formula is not public; ours).

    Known cheats: the same entry again and again (a copy is not well formed); any well-formed list is worth 1 whatever the picture, `[]`
    too, so keep the weight small or make it the condition of a `gate`.

    Example: {text: '<answer>[{"bbox_2d": [0, 0, 4, 4], "label": "cat"}, {"bbox_2d": [4, 0]}]</answer>', target: {}} -> 0.5
    """

    labels: bool = True
    needs = ("text",)

    def one(self, rollout: Rollout) -> tuple[float, str]:
        answer = final_answer(rollout.text or "")
        if answer is None:
            return 0.0, "no <answer>...</answer>"
        try:
            entries = json.loads(unfenced(answer[0]))
        except (ValueError, RecursionError):
            return 0.0, "the answer is no JSON"
        if not isinstance(entries, list):
            return 0.0, "the answer is no JSON list"
        good = {self._key(entry) for entry in entries} - {None}
        return len(good) / len(entries) if entries else 1.0, f"{len(good)} of {len(entries)} entries are well formed"

    def _key(self, entry: Any) -> tuple | None:
        if not isinstance(entry, dict):
            return None
        box, label = box_of(entry), normalize(label_of(entry))
        if not all(map(math.isfinite, box)) or box[0] >= box[2] or box[1] >= box[3] or (self.labels and not label):
            return None
        return (*box, label)


_plain = functools.lru_cache(65_536)(normalize)


@functools.lru_cache(65_536)
def _digest(name: str) -> int:
    """63 bits that stand for a label, the same in every batch and process"""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()) >> 1


def _texts(labels: Any) -> bool:
    return isinstance(labels, list | tuple) and all(isinstance(label, str) and label.strip() for label in labels)
