"""Does a table hold the data of a chart?"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar, Literal

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist, cpdist
from scipy.optimize import linear_sum_assignment

from vlreward.config import Fraction
from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.answers import Answered
from vlreward.types import RewardOutput, Rollout

THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?%?")
BAR = re.compile(r"(?: |^)\|(?= |$)")
MAX_POINTS = 1000
"""Cells read from one table; every further one counts as surplus without being matched."""
MAX_CELL = 300
"""Characters of a cell that are compared."""
HUGE = 1e100
"""A larger number counts as text."""
TIE = 1e-9
"""Weight of the values' similarity in matching keys: it decides between matchings that the keys find equally good, and nothing else."""


@dataclass(frozen=True)
class Points:
    """A table as unordered data points."""

    keys: list[str]
    """'row header column header' in lower case"""
    values: list[str]
    count: int
    """Points in the table, of which the lists may hold fewer."""

    @cached_property
    def numbers(self) -> np.ndarray:
        """[N] the values as numbers; NaN for text"""
        return np.array([number(value) for value in self.values], dtype=np.float64)


@dataclass(frozen=True)
class Table:
    """A title and rows of cells, in lower case."""

    title: str | None
    rows: list[list[str]]

    def points(self, transposed: bool = False, title: bool = False) -> Points:
        """Every cell below and right of the headers, keyed by its two headers; with `title` the title is a point too."""
        rows = list(itertools.zip_longest(*self.rows, fillvalue="")) if transposed else self.rows
        found = {"title": self.title} if title and self.title is not None else {}
        if len(rows) > 1:
            headers = [f" {header}" for header in rows[0][1:]]
            for row in rows[1:]:
                found.update(zip([row[0] + header for header in headers], row[1:], strict=False))
        keys = [key[:MAX_CELL] for key in itertools.islice(found, MAX_POINTS)]
        values = [value[:MAX_CELL] for value in itertools.islice(found.values(), MAX_POINTS)]
        return Points(keys, values, len(found))

    def numbers(self) -> np.ndarray:
        """[N] every cell that is a number, in reading order."""
        numbers = np.array([number(cell) for row in self.rows for cell in row if len(cell) <= MAX_CELL], dtype=np.float64)
        return numbers[~np.isnan(numbers)]


@lru_cache(maxsize=65536)
def number(cell: str) -> float:
    """A cell as a number, 50% as 0.5 and 1,000 as 1000; NaN for text, 'nan' and 'inf' included."""
    if "," in cell and THOUSANDS.fullmatch(cell):
        cell = cell.replace(",", "")
    try:
        value = float(cell.rstrip("%")) / 100 if cell.endswith("%") else float(cell)
    except ValueError:
        return float("nan")
    return value if abs(value) < HUGE else float("nan")


def read_table(text: str) -> Table:
    """Rows of cells in lower case, and an optional first line 'title | ...'."""
    rows = split_rows(text.lower())
    title = " | ".join(rows.pop(0)[1:]) if rows and rows[0][0] == "title" and len(rows[0]) > 1 else None
    return Table(title, rows)


def split_rows(text: str) -> list[list[str]]:
    """Rows by newline, cells by ' | '. Markdown's outer bars and rulers are understood; empty lines and fences are left out."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("```") and not ("--" in line and set(line) <= set("-:| \t"))]
    framed = [len(line) > 2 and line.startswith("|") and line.endswith("|") for line in lines]
    parts = [line[1:-1].split("|") if frame else BAR.split(line) for line, frame in zip(lines, framed, strict=True)]
    return [[cell.strip() for cell in cells] for cells in parts]


def relative_distance(target: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """|answer - target| / |target|, broadcast; for a target of 0 it is huge unless the answer is 0 too; NaN where either is NaN."""
    return np.abs(answer - target) / np.maximum(np.abs(target), 1 / HUGE)


def rnss(target: np.ndarray, answer: np.ndarray, unmatched: float = 1.0) -> float:
    """1 - the least total relative distance of numbers matched one to one, divided by the larger count. In [0, 1].

    A number without a partner is at the distance `unmatched`. Where one side has no number the score is 0, where both have none 1.
    """
    longer = max(len(target), len(answer))
    if not len(target) or not len(answer):
        return float(longer == 0)
    distance = np.minimum(relative_distance(target[:MAX_POINTS, None], answer[None, :MAX_POINTS]), 1.0)
    pairs = linear_sum_assignment(distance)
    return 1 - (float(distance[pairs].sum()) + unmatched * (longer - len(pairs[0]))) / longer


def precision_recall(target: Points, answer: Points, text_theta: float, number_theta: float) -> tuple[float, float]:
    """Relative mapping similarity of two sets of points: keys matched one to one, each pair worth key times value similarity."""
    if not target.count or not answer.count:
        return float(not answer.count), float(not target.count)
    distance = cdist(target.keys, answer.keys, scorer=Levenshtein.normalized_distance, score_cutoff=text_theta, dtype=np.float64)
    rows, columns = (distance < text_theta).nonzero()
    if not len(rows):
        return 0.0, 0.0
    key = 1 - distance[rows, columns]
    value = value_similarity(target, answer, rows, columns, text_theta, number_theta)
    goodness, worth = np.zeros_like(distance), np.zeros_like(distance)
    goodness[rows, columns] = key + TIE * value
    worth[rows, columns] = key * value
    total = float(worth[linear_sum_assignment(goodness, maximize=True)].sum())
    return total / answer.count, total / target.count


def value_similarity(
    target: Points, answer: Points, rows: np.ndarray, columns: np.ndarray, text_theta: float, number_theta: float
) -> np.ndarray:
    """[P] of the cells of P pairs: by relative distance for two numbers, by edit distance otherwise."""
    distance = relative_distance(target.numbers[rows], answer.numbers[columns])
    limit = np.full_like(distance, number_theta)
    words = np.isnan(distance).nonzero()[0]
    if len(words):
        texts = [target.values[i] for i in rows[words]], [answer.values[i] for i in columns[words]]
        distance[words] = cpdist(*texts, scorer=Levenshtein.normalized_distance, dtype=np.float64)
        limit[words] = text_theta
    return (distance < limit) * (1 - np.minimum(distance, 1.0))


def f1(precision: float, recall: float) -> float:
    """Harmonic mean of two shares in [0, 1]; 0 where both are."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@dataclass(kw_only=True)
class _TableReward(Answered):
    """What both table rewards share: equal answers are judged once."""

    needs = ("text", "target.table")
    part_names: ClassVar[tuple[str, ...]] = ()

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        judged: dict[tuple[str, str | None], tuple[float, ...]] = {}
        rows, notes, errors = [], [], []
        for rollout in rollouts:
            answer = self.answer(rollout)
            row, error = (float("nan"),) * (1 + len(self.part_names)), None
            try:
                key = _reference(rollout), answer
                if key not in judged:
                    judged[key] = self.grade(*key)
                row = judged[key]
            except DataError as failure:
                error = str(failure)
            rows.append(row)
            notes.append("no <answer>...</answer>" if answer is None else "")
            errors.append(error)
        columns = torch.tensor(rows, dtype=torch.float64).T
        return RewardOutput(scores=columns[0], parts=dict(zip(self.part_names, columns[1:], strict=True)), notes=notes, errors=errors)

    def grade(self, wanted: str, answer: str | None) -> tuple[float, ...]:
        """The score of an answered table (None: no answer) and its parts. Raises DataError."""
        raise NotImplementedError(f"{type(self).__name__} must define grade")


def _reference(rollout: Rollout) -> str:
    table = rollout.sample.target["table"]
    if not isinstance(table, str):
        raise DataError(f"target.table is {str(table)[:80]!r}, expected a text: rows by newline, cells by ' | '")
    return table


@lru_cache(maxsize=512)
def _wanted_numbers(table: str) -> np.ndarray:
    return read_table(table).numbers()


@lru_cache(maxsize=512)
def _wanted_points(table: str, title: bool) -> Points:
    return read_table(table).points(title=title)


@register("table_rnss")
@dataclass(kw_only=True)
class TableRnss(_TableReward):
    """Relative number set similarity: are the numbers of `target.table` in the answered table, wherever they stand? In [0, 1].

    Numbers are matched one to one at the least total relative distance, each at most 1; the score is 1 minus that total divided by the
    larger count. Tables are rows by newline and cells by ' | ' (or Markdown), in the last `<answer>...</answer>`. 50% is 0.5.

    Source: DePlot (arXiv 2212.10505), section 4. Its code has the distance to a target of 0 the wrong way round and takes no % or 1,000.

    Known cheats: one sure number alone, or a flood of numbers around it, is perfect by the published formula, since a number without a
    partner costs nothing there (`unmatched: free`, for comparable figures; here it is at distance 1); the right numbers under wrong
    headers (not seen here: use `table_rms`); one number many times (matched once); nan and inf (no numbers).

    Example: {text: "<answer>a | 10 | 21</answer>", target: {table: "a | 10 | 20"}} -> 0.975
    """

    unmatched: Literal["counted", "free"] = "counted"

    def grade(self, wanted: str, answer: str | None) -> tuple[float, ...]:
        numbers = _wanted_numbers(wanted)
        if not len(numbers):
            raise DataError(f"target.table is {wanted[:80]!r}, which has no number in a cell")
        return (0.0 if answer is None else rnss(numbers, read_table(answer).numbers(), float(self.unmatched == "counted")),)


@register("table_rms")
@dataclass(kw_only=True)
class TableRms(_TableReward):
    """Relative mapping similarity: F1 of the data points (row header, column header, value) of `target.table`. In [0, 1].

    Points are matched one to one by their headers; a pair is worth the headers' similarity (1 - normalised edit distance, 0 from
    `text_theta`) times the values' (1 - relative distance, 0 from `number_theta`; by edit distance for text). Precision divides by the
    answered points, recall by the wanted ones. The better of the answered table and its transpose counts. Order of rows and columns is
    free. Tables are written as for `table_rnss`.

    Source: DePlot (arXiv 2212.10505). Its code reports recall as `table_datapoints_f1`; this is the F1. Where headers leave a tie the
    values decide it (there, the order of the rows does).

    Known cheats: a right title is a full point there (`include_title: true` counts it, for comparable figures); surplus rows (lower
    precision); one row many times (one point, its last value counts); values off by less than `number_theta` (graded, never free);
    very long tables (points after the first 1000 count as surplus only).

    Example: {text: "<answer>x | y\\na | 19</answer>", target: {table: "x | y\\na | 20"}} -> 0.95
    """

    text_theta: Fraction = 0.5
    number_theta: Fraction = 0.1
    include_title: bool = False
    part_names = ("precision", "recall")

    def grade(self, wanted: str, answer: str | None) -> tuple[float, ...]:
        target = _wanted_points(wanted, self.include_title)
        if not target.count:
            raise DataError(f"target.table is {wanted[:80]!r}, which has no cell below and right of the headers")
        if answer is None:
            return 0.0, 0.0, 0.0
        table = read_table(answer)
        best = (-1.0, 0.0, 0.0)
        for transposed in (False, True):
            pair = precision_recall(target, table.points(transposed, self.include_title), self.text_theta, self.number_theta)
            best = max(best, (f1(*pair), *pair))
            if best[0] == 1.0:
                break
        return best
