"""What do the other answers to the same prompt say? Rewards that need no reference."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from vlreward.config import Count
from vlreward.data.source import Source
from vlreward.errors import DataError
from vlreward.models.text_encoder import load_encoder
from vlreward.registry import register
from vlreward.rewards.answers import normalize
from vlreward.rewards.base import Reward, by_group
from vlreward.rewards.boxes import answer_texts
from vlreward.rewards.overlap import pairwise_iou, valid
from vlreward.rewards.parsing import read_boxes, read_spans
from vlreward.rewards.sentence_sets import MAX_SENTENCES, Distance, set_similarity, split_sentences
from vlreward.rewards.spans import span_iou
from vlreward.types import RewardOutput, Rollout

MAX_REGIONS = 50
"""Boxes or spans of an answer that are compared; more make it worth 0."""
FARTHEST = 1e6
"""Pixels; a box that reaches farther out is cut off there."""


@register("agreement")
@dataclass(kw_only=True)
class Agreement(Reward):
    """How alike an answer is to the others of its group, on average. In [0, 1].

    `answer`: the share of the others with the same final answer, without case and surplus spaces, so that the majority scores highest.
    `boxes`: mean IoU under the best one-to-one matching, divided by the larger count of the two; the highest is the medoid. `spans`: IoU
    of the unions of spans. An answer without tags, or without a box or span, is worth 0. NaN in a group of one.

    Source: self-consistency, arXiv 2203.11171; as a reward in training, TTRL, arXiv 2504.16084.

    Known cheats: as a training reward it pays for saying the same whatever is asked (a collapsed policy agrees with itself fully: watch
    the entropy and pair it with a reward that knows); nothing is known of the truth, so a shared mistake scores high.
    """

    of: Literal["answer", "boxes", "spans"] = "answer"
    needs = ("text",)
    scope = "group"

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        texts = answer_texts(rollouts)
        scores = torch.full((len(rollouts),), float("nan"), dtype=torch.float64)
        for rows in by_group(rollouts):
            if len(rows) > 1:
                scores[rows] = torch.tensor(self._group([texts[row] for row in rows]), dtype=torch.float64)
        return RewardOutput(scores=scores)

    def _group(self, texts: Sequence[str | None]) -> list[float]:
        if self.of == "answer":
            answers = [normalize(text or "") for text in texts]
            votes = Counter(answers)
            return [(votes[answer] - 1) / (len(texts) - 1) if answer else 0.0 for answer in answers]
        read: Callable[[str], Any] = _boxes if self.of == "boxes" else _spans
        alike: Callable[[Any, Any], float] = _box_likeness if self.of == "boxes" else span_iou
        return mean_of_others([read(text or "") for text in texts], alike)


@register("sentence_agreement")
@dataclass(kw_only=True)
class SentenceAgreement(Reward):
    """How near the set of a text's sentences is to those of the others of its group, or to those of known texts. In [0, 1].

    1 - distance / its largest value, as in `sentence_sets`, averaged over the others; with `bank`, over the `nearest` texts of that
    source (`target.answer` of each sample). A text without a sentence is worth 0. NaN in a group of one, where there is no bank.

    Source: set-distance rewards (SDR), arXiv 2606.00440: selection by the distance to reports of the training set, and as a signal while
    candidates are written.

    Known cheats: the commonest report of all is near to every other (a `bank` makes this worse: pair it with a reward that sees the
    picture); texts that leave the rare finding out; see `sentence_sets` for what each distance leaves open.
    """

    model: str
    """A folder with a sentence encoder."""
    distance: Distance = "chamfer"
    projections: Count = 64
    bank: Source | None = None
    nearest: Count = 1
    needs = ("text",)
    scope = "group"

    def load(self, device: str) -> None:
        self._encoder = load_encoder(self.model, device)
        known = [] if self.bank is None else [_known(sample.target.get("answer"), sample.id) for sample in self.bank.samples()]
        self._known = [vectors for vectors in self._vectors(known) if vectors is not None]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        vectors = self._vectors([rollout.text or "" for rollout in rollouts])
        scores = torch.full((len(rollouts),), float("nan"), dtype=torch.float64)
        for rows in by_group(rollouts):
            if self.bank is not None:
                scores[rows] = torch.tensor([self._to_bank(vectors[row]) for row in rows], dtype=torch.float64)
            elif len(rows) > 1:
                alike = mean_of_others([vectors[row] for row in rows], self._likeness)
                scores[rows] = torch.tensor(alike, dtype=torch.float64)
        return RewardOutput(scores=scores)

    def _vectors(self, texts: Sequence[str]) -> list[torch.Tensor | None]:
        """[S,D] float64 unit vectors of each text's sentences; None without any, and with too many."""
        sets = [split_sentences(text) for text in texts]
        sets = [found if len(found) <= MAX_SENTENCES else [] for found in sets]
        distinct = list(dict.fromkeys(sentence for found in sets for sentence in found))
        vectors = dict(zip(distinct, self._encoder.sentences(distinct).cpu().double(), strict=True)) if distinct else {}
        return [torch.stack([vectors[sentence] for sentence in found]) if found else None for found in sets]

    def _likeness(self, first: torch.Tensor | None, second: torch.Tensor | None) -> float:
        if first is None or second is None:
            return 0.0
        return min(1.0, set_similarity(first, second, self.distance, self.projections))

    def _to_bank(self, vectors: torch.Tensor | None) -> float:
        best = sorted((self._likeness(vectors, known) for known in self._known), reverse=True)[: self.nearest]
        return float(np.mean(best))


def mean_of_others(items: Sequence[Any], alike: Callable[[Any, Any], float]) -> list[float]:
    """For each of several items (at least two) its mean likeness to the others; `alike` is symmetric."""
    table = np.zeros((len(items), len(items)))
    for i in range(len(items)):
        for j in range(i):
            table[i, j] = table[j, i] = alike(items[i], items[j])
    return (table.sum(1) / (len(items) - 1)).tolist()


@functools.lru_cache(maxsize=4096)
def _boxes(text: str) -> np.ndarray:
    """[A,4] the valid boxes of an answer; none where there are too many."""
    boxes = np.clip(read_boxes([text])[0], -FARTHEST, FARTHEST)
    boxes = boxes[valid(boxes)]
    return boxes if len(boxes) <= MAX_REGIONS else boxes[:0]


def _spans(text: str) -> list[tuple[float, float]]:
    spans = [(start, end) for start, end in read_spans(text) if start < end < FARTHEST]
    return spans if len(spans) <= MAX_REGIONS else []


def _box_likeness(first: np.ndarray, second: np.ndarray) -> float:
    if not len(first) or not len(second):
        return 0.0
    iou = pairwise_iou(first, second)
    return float(iou[linear_sum_assignment(iou, maximize=True)].sum()) / max(iou.shape)


def _known(answer: Any, name: str) -> str:
    if not isinstance(answer, str) or not answer.strip():
        raise DataError(f"bank: {name}: target.answer is {answer!r}, expected a text")
    return answer
