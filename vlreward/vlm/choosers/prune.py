"""Several answers are begun, and the weakest are given up while they are being written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from vlreward.config import Bound, Count
from vlreward.registry import register
from vlreward.types import Sample
from vlreward.vlm.choosers.base import Choice, Judged, best
from vlreward.vlm.writing import Writer


@register("prune")
@dataclass(kw_only=True)
class Prune(Judged):
    """Best of `size` answers, of which the weaker ones stop early: after every `every` tokens only the better share `keep` goes on.

    The rewards in `by` judge what stands there so far; an answer that has ended stays in the running without costing more. At least
    one goes on, and the best of those that were kept to the end is handed out. `every` should be a sentence or two.

    Source: set distances as a streaming signal (SDR, arXiv 2606.00440), with `by: [{kind: sentence_agreement, ...}]`; that rounds
    halve the field is ours (successive halving, arXiv 1502.07943).
    """

    size: Annotated[int, Bound(2)] = 8
    every: Count = 32
    """Tokens of each answer between two cuts."""
    keep: Annotated[float, Bound(0, 1, above=True)] = 0.5

    def choose(self, writer: Writer, samples: Sequence[Sample], done: Callable[[int], None] = lambda count: None) -> list[Choice]:
        choices: list[Choice] = []
        for first, part in writer.batches(samples, self.size):
            writing = writer.start(part, self.size, f"choose/{first}", first)
            running = [list(range(number * self.size, (number + 1) * self.size)) for number in range(len(part))]
            while writing.live:
                writing.write(self.every)
                scores, _ = self.judge(writing.rollouts, writer.policy.device)
                going = set(writing.live)
                for number, rows in enumerate(running):
                    if going.isdisjoint(rows):
                        continue
                    ranked = sorted(rows, key=lambda row: (-scores[row], row))
                    running[number] = ranked[: max(1, math.ceil(self.keep * len(rows)))]
                    writing.drop([row for row in rows if row not in running[number]])
            rollouts = writing.rollouts
            scores, _ = self.judge(rollouts, writer.policy.device)
            for number, rows in enumerate(running):
                mine = range(number * self.size, (number + 1) * self.size)
                choices.append(Choice(rollouts[best(scores, rows)], sum(len(writing.tokens[row]) for row in mine), self.size))
            done(len(part))
        return choices
