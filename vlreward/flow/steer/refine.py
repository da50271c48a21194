"""Generate, criticise, refine: a judge's words about a picture go into the prompt of the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vlreward.config import Count
from vlreward.errors import under
from vlreward.flow.steer.base import Done, Judged, Studio
from vlreward.flow.steer.refiners import Refiner, Template
from vlreward.registry import register
from vlreward.types import RewardTable, Rollout, Sample


@register("refine")
@dataclass(kw_only=True)
class Refine(Judged):
    """A picture is judged, the prompt is written anew from what the judges found, and another is made; the best one is handed out.

    The critique is what the rewards in `by` note of a picture (`object_match`: what is missing; a judge that writes: its words). The
    `refiner` makes the next prompt of it; your own is a class with `refine`, named `file.py:Class`. Pictures are always judged by the
    first prompt. Each round starts from other noise. `refined.jsonl` of the run keeps the prompts.
    Known failure: a critique in words that the text encoder was not trained on ("missing", "not") names what should go away.
    Source: RationalRewards, arXiv 2604.11626, whose one round of critique and rewriting matched training on several benchmarks.
    """

    rounds: Count = 1
    """Pictures after the first one."""
    at_least: float | None = None
    """A total from which on a picture is handed out as it is; None refines all."""
    refiner: Refiner = field(default_factory=Template)

    def load(self, device: str) -> None:
        super().load(device)
        with under("eval.steer.refiner"):
            self.refiner.load(device)

    def steer(self, studio: Studio, samples: Sequence[Sample], done: Done = lambda count: None) -> list[Rollout]:
        made: list[Rollout] = []
        for part in studio.batches(samples, 1):
            made += self.refined(studio, part)
            done(len(part))
        return made

    def refined(self, studio: Studio, part: Sequence[Sample]) -> list[Rollout]:
        """The best picture of each sample."""
        best: list[tuple[float, Rollout]] = []
        prompts, left = [sample.prompt for sample in part], list(range(len(part)))
        for turn in range(self.rounds + 1):
            asked = [prompts[number] for number in left] if turn else None
            tried = studio.draw([part[number] for number in left], [turn] * len(left), asked)
            table = studio.judge(self.by, tried)
            totals = table.total.nan_to_num(nan=-float("inf")).tolist()
            if turn == 0:
                best = list(zip(totals, tried, strict=True))
            for row, number in enumerate(left):
                best[number] = max(best[number], (totals[row], tried[row]), key=lambda one: one[0])
            rows = [row for row in range(len(left)) if self.at_least is None or totals[row] < self.at_least]
            if turn == self.rounds or not rows:
                break
            for row in rows:
                sample = part[left[row]]
                prompts[left[row]] = self.refiner.refine(sample.prompt, critique(table, row), tried[row].made)
                studio.written.append({"id": sample.id, "round": turn + 1, "prompt": sample.prompt, "refined": prompts[left[row]]})
            left = [left[row] for row in rows]
        return [rollout for _, rollout in best]


def critique(table: RewardTable, row: int) -> str:
    """What the terms note of a picture, in order."""
    return "; ".join(filter(None, (table.outputs[name].notes[row] for name in table.names)))
