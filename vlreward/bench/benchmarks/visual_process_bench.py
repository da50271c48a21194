"""VisualProcessBench."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlreward.bench.base import Benchmark, get
from vlreward.bench.figures import Figure, Related
from vlreward.bench.judged import Judged, pairs_of
from vlreward.bench.metrics import accuracy, f1_of_both
from vlreward.bench.reading import Row
from vlreward.bench.ties import halves_of
from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.types import Comparison, Rollout, Sample

BETWEEN = "\n\n"
"""What stands between two steps, so that a critic of steps which reads paragraphs sees the benchmark's own steps."""
NEUTRAL = 0


@register("visual_process_bench")
@dataclass(kw_only=True)
class VisualProcessBench(Benchmark):
    """Is each step of a solution right? Macro F1 of right and wrong steps (2,866 solutions, 26,950 steps that people labelled).

    Each step is judged as the end of the solution up to it: by a critic of steps through the last of its segments (train it with `part:
    paragraph`, since an empty line stands between steps), by any other through its score of that text. Steps without a thought
    (label 0) stand in the texts and are not judged. A step is called right from a threshold that fits the other half of the solutions
    best. `step pairs`: how often a right step is scored above a wrong one of the same solution, which needs no threshold.

    Fields of `test.jsonl`: `image[]` (paths), `question, answer, response {steps[], process_correctness[] (1, 0, -1)}, data_source,
    policy_model`.

    Source: VisualPRM, arXiv 2503.10291 (OpenGVLab/VisualProcessBench), which names no threshold for its figures.
    """

    headline = "macro f1"
    files = ("test.jsonl",)
    pointwise = True
    by_step = True

    def comparison(self, row: Row, place: str) -> Comparison | None:
        texts, labels = _steps(row.get("response"))
        given = row.get("image")
        visuals = [self.visual(one, "image") for one in (given if isinstance(given, list) else [given] if given else [])]
        target = {"answer": row["answer"]} if row.get("answer") else {}
        sample = Sample(id=place, prompt=get(row, "question", str), visuals=tuple(visuals), target=target)
        judged = [k for k, label in enumerate(labels) if label != NEUTRAL]
        if not judged:
            return None
        rollouts = tuple(Rollout(sample=sample, text=BETWEEN.join(texts[: k + 1])) for k in judged)
        scores = tuple(float(labels[k] > 0) for k in judged)
        return Comparison(id=place, rollouts=rollouts, scores=scores, subset=str(row.get("data_source", "")))

    def figures(self, judged: Sequence[Judged]) -> dict[str, Figure]:
        units = [one.item.id for one in judged for _ in one.scores]
        scores = np.array([score for one in judged for score in one.scores], dtype=float)
        right = np.array([wanted > 0 for one in judged for wanted in one.item.wanted], dtype=bool)
        said = called_right(scores, right, halves_of(units))
        signs = {"units": units, "x": np.where(said, 1.0, -1.0).tolist(), "y": np.where(right, 1.0, -1.0).tolist()}
        return {
            "macro f1": Related(**signs, statistic=lambda x, y: f1_of_both(x, y).mean().item()),
            "f1 of right": Related(**signs, statistic=lambda x, y: f1_of_both(x, y)[0].item()),
            "f1 of wrong": Related(**signs, statistic=lambda x, y: f1_of_both(x, y)[1].item()),
            "step pairs": accuracy(pairs_of(judged)),
        }


def called_right(scores: np.ndarray, right: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """[S] bool: whether each step's score reaches the threshold with the greatest macro F1 on the other half's steps."""
    said = np.zeros(len(scores), dtype=bool)
    for half in (0, 1):
        here = halves == half
        known = ~here if (~here).any() else here
        said[here] = scores[here] >= threshold(scores[known], right[known])
    return said


def threshold(scores: np.ndarray, right: np.ndarray) -> float:
    """The least of the scores from which on to call a step right, with the greatest macro F1; infinity where calling none right is best."""
    order = np.argsort(scores, kind="stable")
    values, wrong = scores[order], (~right[order]).astype(float)
    below = np.concatenate([[0.0], np.cumsum(wrong)])  # wrong steps among the first k, which are called wrong
    count, cut = len(values), np.arange(len(values) + 1)
    f1_wrong = 2 * below / np.maximum(cut + wrong.sum(), 1)
    f1_right = 2 * (count - cut - (wrong.sum() - below)) / np.maximum(count - cut + count - wrong.sum(), 1)
    open_cut = np.concatenate([[True], values[1:] != values[:-1], [True]])[: count + 1]
    places = np.flatnonzero(open_cut)
    best = places[np.argmax(np.round((f1_wrong + f1_right)[places], 9))]
    return float(values[best]) if best < count else float("inf")


def _steps(response: Any) -> tuple[list[str], list[int]]:
    """Texts and labels of a response's steps, blank lines inside of a step closed. Raises DataError."""
    if isinstance(response, str):
        try:
            response = json.loads(response)
        except json.JSONDecodeError as error:
            raise DataError(f"response is {response[:60]!r}, expected its steps and their process_correctness") from error
    texts, labels = (response.get(name) if isinstance(response, dict) else None for name in ("steps", "process_correctness"))
    if not isinstance(texts, list) or not isinstance(labels, list) or not texts:
        raise DataError("response holds no list of steps and of their process_correctness")
    if len(texts) != len(labels):
        raise DataError(f"response has {len(texts)} steps and {len(labels)} entries of process_correctness")
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError("response has a step without words")
    if not all(label in (-1, 0, 1) for label in labels):
        raise DataError(f"process_correctness is {labels}, expected 1, 0 or -1 a step")
    return [re.sub(r"\n\s*\n", "\n", text.strip()) for text in texts], [int(label) for label in labels]
