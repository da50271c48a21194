"""The best of several pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from vlreward.config import Bound
from vlreward.flow.steer.base import Done, Judged, Studio, best
from vlreward.registry import register
from vlreward.types import Rollout, Sample


@register("best_of_n")
@dataclass(kw_only=True)
class BestOfN(Judged):
    """The one of `size` plain pictures that the rewards in `by` like best; the first of them is the evaluation's plain one.

    Costs `size` pictures and judgements a sample.
    Known failure: the judge's favourites are handed out, artefacts and all; look at a reward that did not choose.
    Source: best-of-n sampling, the baseline of arXiv 2501.06848 (FK steering).
    """

    size: Annotated[int, Bound(2)] = 8

    def steer(self, studio: Studio, samples: Sequence[Sample], done: Done = lambda count: None) -> list[Rollout]:
        chosen: list[Rollout] = []
        for part in studio.batches(samples, self.size):
            rollouts = studio.draw([sample for sample in part for _ in range(self.size)], [*range(self.size)] * len(part))
            chosen += best(rollouts, studio.judge(self.by, rollouts), self.size)
            done(len(part))
        return chosen
