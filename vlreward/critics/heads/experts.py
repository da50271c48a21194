"""A number for each criterion, weighed by gates that read the prompt."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from vlreward.config import Positive
from vlreward.critics.heads.base import Head, Layers, States
from vlreward.critics.reading import Mark, Reading
from vlreward.critics.verdicts import Verdicts
from vlreward.errors import ConfigError
from vlreward.registry import register
from vlreward.types import Rollout

GATE, JUDGED = "<|gate|>", "<|judged|>"


@register("experts")
@dataclass(kw_only=True)
class Experts(Head):
    """A number for each criterion at the end, a mixture of criteria for each aspect, and a mixture of aspects for the score.

    The gates read a token behind the prompt and before the attempt, so that how much a criterion counts depends on what is asked and not
    on how well it was done. A picture has the prompt behind it once more, since a causal trunk looks before it is asked. Weights are
    softmax(gate / temperature), over aspects and over the criteria of each aspect.

    Source: MJ-VIDEO (arXiv 2502.01719): 28 criteria of 5 aspects; first the criteria alone (`regression` of aspects), then with pairs.
    """

    of: Mapping[str, tuple[str, ...]]
    """Aspect -> its criteria."""
    temperature: Positive = 1.0
    gives = ()

    def __post_init__(self):
        names = [*self.of, *self.criteria]
        if not self.criteria or not all(self.of.values()) or len(set(names)) < len(names):
            raise ConfigError(f"is {dict(self.of)}, expected aspects with criteria, all of different names", "of")

    @property
    def criteria(self) -> tuple[str, ...]:
        """All criteria, aspect by aspect."""
        return tuple(name for names in self.of.values() for name in names)

    @property
    def marks(self) -> tuple[str, ...]:
        return GATE, JUDGED

    @property
    def aspects(self) -> tuple[str, ...]:
        return (*self.of, *self.criteria)

    def readings(self, rollouts: Sequence[Rollout], rng: random.Random | None = None) -> list[Reading]:
        found = []
        for i, one in enumerate(rollouts):
            asked = (*one.sample.visuals, one.sample.prompt, Mark(GATE))
            if one.text is not None:
                found.append(Reading(user=asked, answer=(one.text, Mark(JUDGED)), owners=(i, i)))
            elif one.made is not None:
                found.append(Reading(user=(*asked, one.made, one.sample.prompt, Mark(JUDGED)), answer=None, owners=(i, i)))
            else:
                given = (one.sample.prompt, Mark(GATE), *one.sample.visuals, one.sample.prompt, Mark(JUDGED))
                found.append(Reading(user=given, answer=None, owners=(i, i)))
        return found

    def network(self, width: int) -> nn.Module:
        gates = {"aspects": len(self.of), "criteria": len(self.criteria)}
        layers = {name: Layers(width, count, 2) for name, count in gates.items()}
        return nn.ModuleDict({"numbers": Layers(width, len(self.criteria)), **layers})

    def verdicts(self, network: nn.Module, states: States) -> Verdicts:
        assert isinstance(network, nn.ModuleDict), "experts are three networks"
        asked, done = states.at(GATE), states.at(JUDGED)
        numbers = network["numbers"](done)
        within, between = network["criteria"](asked) / self.temperature, network["aspects"](asked) / self.temperature
        parts = {name: numbers[:, k] for k, name in enumerate(self.criteria)}
        columns, start = [], 0
        for aspect, names in self.of.items():
            span = slice(start, start + len(names))
            columns.append((torch.softmax(within[:, span], 1) * numbers[:, span]).sum(1))
            parts[aspect], start = columns[-1], span.stop
        return Verdicts(scores=(torch.softmax(between, 1) * torch.stack(columns, 1)).sum(1), parts=parts)
