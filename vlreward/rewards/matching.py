"""Which answered box belongs to which wanted one, for many rows in one go.

The boxes of B rows lie one row after the other in one array, and so do the pairs (answered, wanted) of each row: a batch of small
answers costs a few array operations, and only rows in which boxes compete need an assignment of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment


@dataclass(kw_only=True)
class Boxes:
    """The boxes of B rows, row after row."""

    xyxy: np.ndarray
    """[N,4]"""
    counts: np.ndarray
    """[B] boxes of each row"""
    labels: np.ndarray | None = None
    """[N] whole numbers that are equal where labels are; None where labels do not matter."""

    def keep(self, chosen: np.ndarray) -> Boxes:
        """The boxes for which [N] bool holds."""
        if chosen.all():
            return self
        counts = np.bincount(self.rows[chosen], minlength=len(self.counts))
        return Boxes(xyxy=self.xyxy[chosen], counts=counts, labels=None if self.labels is None else self.labels[chosen])

    def take(self, index: np.ndarray) -> Boxes:
        """The boxes of the rows in `index` [C], which may name a row several times."""
        counts = self.counts[index]
        moved = np.repeat((np.cumsum(self.counts) - self.counts)[index] - (np.cumsum(counts) - counts), counts)
        places = np.arange(len(moved)) + moved
        return Boxes(xyxy=self.xyxy[places], counts=counts, labels=None if self.labels is None else self.labels[places])

    def row(self, row: int) -> np.ndarray:
        """[n,4] the boxes of one row"""
        end = int(self.counts[: row + 1].sum())
        return self.xyxy[end - int(self.counts[row]) : end]

    @property
    def rows(self) -> np.ndarray:
        """[N] the row of each box"""
        return np.repeat(np.arange(len(self.counts)), self.counts)


@dataclass(kw_only=True)
class Pairs:
    """All pairs (answered, wanted) of B rows, row after row, the wanted one running fastest."""

    answered: np.ndarray
    """[P] index of the answered box"""
    wanted: np.ndarray
    """[P] index of the wanted box"""
    rows: np.ndarray
    """[P] the row that the pair is in"""
    shapes: np.ndarray
    """[B,2] how many are answered and wanted"""

    @classmethod
    def of(cls, answered: np.ndarray, wanted: np.ndarray) -> Pairs:
        """From how many boxes [B] each row answered and wanted."""
        sizes = answered * wanted
        rows = np.repeat(np.arange(len(sizes)), sizes)
        place = np.arange(len(rows)) - (np.cumsum(sizes) - sizes)[rows]
        first, second = np.cumsum(answered) - answered, np.cumsum(wanted) - wanted
        turn = wanted[rows]
        return cls(
            answered=first[rows] + place // turn, wanted=second[rows] + place % turn, rows=rows, shapes=np.stack([answered, wanted], 1)
        )

    def match(self, values: np.ndarray) -> np.ndarray:
        """The indices of the pairs that are matched: each box at most once, the sum of their values [P] as high as can be.

        Pairs with a value of 0 are never matched.
        """
        some = values > 0
        rivals = [np.bincount(side[some], minlength=1) for side in (self.answered, self.wanted)]
        contested = some & ((rivals[0].take(self.answered, mode="clip") > 1) | (rivals[1].take(self.wanted, mode="clip") > 1))
        hard = np.unique(self.rows[contested])
        if not len(hard):
            return np.flatnonzero(some)
        sizes = self.shapes[:, 0] * self.shapes[:, 1]
        starts = (np.cumsum(sizes) - sizes)[hard]
        chosen = [np.flatnonzero(some & ~np.isin(self.rows, hard))]
        for start, (answered, wanted) in zip(starts.tolist(), self.shapes[hard].tolist(), strict=True):
            block = values[start : start + answered * wanted].reshape(answered, wanted)
            first, second = linear_sum_assignment(block, maximize=True)
            chosen.append(start + first * wanted + second)
        found = np.concatenate(chosen)
        return found[values[found] > 0]
