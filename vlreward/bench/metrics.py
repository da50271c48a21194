"""The metrics that benchmarks of preferences publish. Each gives a figure, whose interval comes from drawing items anew."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import numpy as np

from vlreward.bench.figures import Counted
from vlreward.bench.judged import Judged, Pairs, coin

Ties = Literal["strict", "half", "random"]


def accuracy(pairs: Pairs, ties: Ties = "strict", macro: bool = False) -> Counted:
    """Share of decided pairs that the critic orders as the benchmark does; over all pairs, or as the mean of the subsets' shares (`macro`).

    A tie of the critic is wrong (`strict`), half right (`half`) or decided by a coin (`random`). A constant critic gets 0, 0.5 and
    about 0.5.
    """
    decided = pairs.decided
    won = decided.correct
    tied = won == 0.5
    if ties == "strict":
        won = np.where(tied, 0.0, won)
    elif ties == "random":
        won = np.where(tied, [coin(f"tie/{place}") for place in decided.places], won)
    return Counted(units=decided.units, won=won.tolist(), cells=decided.subsets if macro else ())


def tie_rate(pairs: Pairs) -> float:
    """Share of the benchmark's decided pairs that the critic ties."""
    decided = pairs.decided
    return float((decided.difference == 0).mean()) if len(decided.units) else float("nan")


def all_right(judged: Sequence[Judged], unit: str = "") -> Counted:
    """Share of items (or of what `facts[unit]` names: MM-RLHF's Acc+) all of whose decided pairs are right, a tie being wrong.

    With the default unit and K candidates each this is the set accuracy of EditReward-Bench (TIGER), by chance 1/K!.
    """
    right: dict[str, bool] = {}
    for one in judged:
        name = str(one.item.facts.get(unit, one.item.id))
        pairs = [(i, j) for i, j in combinations(range(len(one.scores)), 2) if one.item.wanted[i] != one.item.wanted[j]]
        good = all((one.item.wanted[i] - one.item.wanted[j]) * (one.scores[i] - one.scores[j]) > 0 for i, j in pairs)
        if pairs:
            right[name] = right.get(name, True) and good
    return Counted(units=list(right), won=[float(value) for value in right.values()])


def best_of(judged: Sequence[Judged], macro: bool = False) -> Counted:
    """Share of items whose best candidate the critic scores highest; among k highest scores that tie it counts 1/k of the best in them.

    By chance, and for a constant critic, 1/K (RewardBench 2: 1/4). Source: RewardBench 2, arXiv 2506.01937.
    """
    won = []
    for one in judged:
        top = [i for i, score in enumerate(one.scores) if score == max(one.scores)]
        won.append(sum(one.item.wanted[i] == max(one.item.wanted) for i in top) / len(top))
    return Counted(units=[one.item.id for one in judged], won=won, cells=[one.item.subset for one in judged] if macro else ())


def inversions(judged: Sequence[Judged]) -> Counted:
    """Mean over items of 1 - inverted pairs / all pairs; a tie of the benchmark is never inverted, one of the critic counts as half a pair.

    By chance 1/2 where the benchmark ties nothing. Source: HPS v2, arXiv 2306.09341 (whose code lets the order of sorting decide ties).
    """
    won = []
    for one in judged:
        pairs = list(combinations(range(len(one.scores)), 2))
        signs = [np.sign(one.item.wanted[i] - one.item.wanted[j]) * np.sign(one.scores[i] - one.scores[j]) for i, j in pairs]
        ties = [one.item.wanted[i] == one.item.wanted[j] for i, j in pairs]
        lost = sum(0.0 if tie else (1 - sign) / 2 for sign, tie in zip(signs, ties, strict=True))
        won.append(1 - float(lost) / len(pairs))
    return Counted(units=[one.item.id for one in judged], won=won)


def accuracy_by_item(judged: Sequence[Judged]) -> Counted:
    """Mean over items of the share of their decided pairs that are right, a tie being wrong; items without such a pair are left out."""
    units, won = [], []
    for one in judged:
        pairs = [(i, j) for i, j in combinations(range(len(one.scores)), 2) if one.item.wanted[i] != one.item.wanted[j]]
        if pairs:
            good = [(one.item.wanted[i] - one.item.wanted[j]) * (one.scores[i] - one.scores[j]) > 0 for i, j in pairs]
            units.append(one.item.id)
            won.append(sum(good) / len(pairs))
    return Counted(units=units, won=won)


def crossed(judged: Sequence[Judged]) -> dict[str, Counted]:
    """Winoground's text, image and group scores of items whose four scores are of (caption 0, picture 0), (1, 0), (0, 1), (1, 1).

    All comparisons are strict, so a constant critic gets 0; by chance 1/4, 1/4 and 1/6. Source: Winoground, arXiv 2204.03162.
    """
    rows = [one.scores for one in judged]
    text = [float(a > b and d > c) for a, b, c, d in rows]
    image = [float(a > c and d > b) for a, b, c, d in rows]
    group = [x * y for x, y in zip(text, image, strict=True)]
    units = [one.item.id for one in judged]
    return {name: Counted(units=units, won=won) for name, won in (("text", text), ("image", image), ("group", group))}


def f1_of_both(said: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """F1 of the answer 1 and F1 of the answer -1 over decided rows; a 0 that was said is neither. 0 where an answer neither was nor is."""
    scores = []
    for side in (1, -1):
        right = float(((said == side) & (wanted == side)).sum())
        whole = float((said == side).sum() + (wanted == side).sum())
        scores.append(2 * right / whole if whole else 0.0)
    return np.array(scores)
