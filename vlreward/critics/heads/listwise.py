"""All attempts at one sample in one pass."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from vlreward.config import Count
from vlreward.critics.heads.base import Head, Layers, States
from vlreward.critics.reading import Mark, Reading
from vlreward.critics.verdicts import Verdicts
from vlreward.registry import register
from vlreward.types import Rollout

END = "<|response_end|>"


@register("listwise")
@dataclass(kw_only=True)
class Listwise(Head):
    """All attempts of a group in one pass, one behind the other, each read at a special token at its end by the same small network.

    What stands first cannot see what comes later, so a single order is not fair: while it judges, the group is read in `orders` rotations
    (0: as many as there are attempts, so that each stands at each place once) and scores are averaged; while it learns, in one random
    order. Behind each picture stands the prompt, since a causal trunk looks before it is asked.

    Source: YOJO (arXiv 2604.10966), with cross-entropy over the group's scores (the loss `listwise`).
    """

    layers: Count = 2
    orders: int = 0
    gives = ()
    scope = "group"

    @property
    def marks(self) -> tuple[str, ...]:
        return (END,)

    def readings(self, rollouts: Sequence[Rollout], rng: random.Random | None = None) -> list[Reading]:
        count = len(rollouts)
        if rng is not None:
            return [self._reading(rollouts, rng.sample(range(count), count))]
        turns = min(self.orders or count, count)
        return [self._reading(rollouts, [(place + turn) % count for place in range(count)]) for turn in range(turns)]

    def _reading(self, rollouts: Sequence[Rollout], order: Sequence[int]) -> Reading:
        sample, mark = rollouts[0].sample, Mark(END)
        if rollouts[0].text is not None:
            answer = tuple(piece for i in order for piece in (rollouts[i].text or "", mark))
            return Reading(user=(*sample.visuals, sample.prompt), answer=answer, owners=tuple(order))
        shown = tuple(piece for i in order for made in [rollouts[i].visual] if made is not None for piece in (made, sample.prompt, mark))
        given = () if rollouts[0].made is None else sample.visuals
        return Reading(user=(*given, *shown), answer=None, owners=tuple(order))

    def network(self, width: int) -> nn.Module:
        return Layers(width, 1, self.layers)

    def verdicts(self, network: nn.Module, states: States) -> Verdicts:
        return Verdicts(scores=states.mean(network(states.rows).squeeze(1)))
