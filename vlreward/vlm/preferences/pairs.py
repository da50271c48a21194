"""Preference pairs: a better and a worse answer to one prompt, and how they are found among several that were judged."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

from vlreward.rewards.base import by_group
from vlreward.statistics import interval
from vlreward.types import RewardTable, Rollout, Sample, Segment


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One side of a pair."""

    text: str
    score: float | None = None
    """What the rewards gave it in total, where they were asked."""
    segments: tuple[Segment, ...] = ()
    """Spans of the text with a reward of their own."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two answers to one sample, the first of which is preferred."""

    sample: Sample
    chosen: Answer
    rejected: Answer

    @property
    def record(self) -> dict[str, Any]:
        """As plain values, without the sample's pictures and target."""
        row: dict[str, Any] = {"id": self.sample.id, "prompt": self.sample.prompt}
        for name, side in (("chosen", self.chosen), ("rejected", self.rejected)):
            spans = [[part.start, part.end, part.reward] for part in side.segments]
            row |= {name: side.text, f"{name}_score": side.score, f"{name}_segments": spans}
        return row

    @staticmethod
    def of(sample: Sample, row: Mapping[str, Any]) -> Pair:
        """The pair that a record holds."""

        def side(name: str) -> Answer:
            parts = tuple(Segment(start=start, end=end, reward=reward) for start, end, reward in row[f"{name}_segments"])
            return Answer(text=row[name], score=row[f"{name}_score"], segments=parts)

        return Pair(sample=sample, chosen=side("chosen"), rejected=side("rejected"))


def mine(
    rollouts: Sequence[Rollout], table: RewardTable, margin: float, length_ratio: float | None = None, labels: str | None = None
) -> Iterator[Pair]:
    """Of each group the two answers whose totals lie farthest apart: more than 0, at least `margin`, and at most `length_ratio` in length.

    Answers without a total (nothing applies, or a judge broke) and equal texts make no pair. Of equal gaps the one with the least
    difference in length counts. Segments are those of the term called `labels`.
    """
    total = table.total.tolist()
    for rows in by_group(rollouts):
        judged = [row for row in rows if total[row] == total[row] and rollouts[row].text]
        found = [
            (total[good] - total[bad], -abs(_length(rollouts[good]) - _length(rollouts[bad])), good, bad)
            for good, bad in permutations(judged, 2)
            if total[good] > total[bad]
            and total[good] - total[bad] >= margin
            and rollouts[good].text != rollouts[bad].text
            and _alike(rollouts[good], rollouts[bad], length_ratio)
        ]
        if found:
            *_, good, bad = max(found, key=lambda one: one[:2])
            sides = [
                Answer(
                    text=rollouts[row].text or "", score=total[row], segments=tuple(table.outputs[labels].segments[row]) if labels else ()
                )
                for row in (good, bad)
            ]
            yield Pair(sample=rollouts[good].sample, chosen=sides[0], rejected=sides[1])


def shuffled(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """The same pairs, chosen and rejected changing places in half of them: nothing can be learned from these."""
    coin = random.Random(f"{seed}/control/pairs")
    return [replace(pair, chosen=pair.rejected, rejected=pair.chosen) if coin.random() < 0.5 else pair for pair in pairs]


def overview(pairs: Sequence[Pair]) -> dict[str, float]:
    """How many pairs there are, how far apart their sides lie, and how long these are in characters."""
    gaps = [pair.chosen.score - pair.rejected.score for pair in pairs if pair.chosen.score is not None and pair.rejected.score is not None]
    return {
        "count": len(pairs),
        "gap": interval(gaps).mean,
        "chosen_characters": interval([len(pair.chosen.text) for pair in pairs]).mean,
        "rejected_characters": interval([len(pair.rejected.text) for pair in pairs]).mean,
    }


def _length(rollout: Rollout) -> int:
    """Tokens where they were counted, else characters."""
    return rollout.num_tokens or len(rollout.text or "")


def _alike(first: Rollout, second: Rollout, ratio: float | None) -> bool:
    shorter, longer = sorted((_length(first), _length(second)))
    return ratio is None or longer <= ratio * shorter
