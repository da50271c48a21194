"""Whether one attempt beats another, as the trunk's yes or no."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from vlreward.critics.heads.base import Head, States
from vlreward.critics.reading import Piece, Reading
from vlreward.critics.verdicts import Duels, Verdicts
from vlreward.registry import register
from vlreward.types import Rollout


@register("duels")
@dataclass(kw_only=True)
class DuelHead(Head):
    """The trunk's chance of `yes` (of yes and no) when it is asked whether the second of two attempts is better than the first.

    Every attempt of a group stands second against every other one, so each pair is asked in both orders. As a reward it is the mean chance
    of yes over the others, a win rate in [0, 1]; one without others gets none. There are no weights besides the trunk's. Of pictures the
    prompt stands behind them, since a causal trunk looks before it is asked.

    Source: RewardDance (arXiv 2509.08826), where the first is a reference picture and reasons may stand before the yes.
    """

    question: str = "Is the second better than the first?"
    words: tuple[str, str] = ("yes", "no")
    """Of one token each."""
    gives = ("duels",)
    scope = "group"
    bounds = (0.0, 1.0)

    def readings(self, rollouts: Sequence[Rollout], rng: random.Random | None = None) -> list[Reading]:
        orders = [(i, j) for i in range(len(rollouts)) for j in range(len(rollouts)) if i != j]
        return [self._reading(rollouts, i, j) for i, j in orders]

    def _reading(self, rollouts: Sequence[Rollout], i: int, j: int) -> Reading:
        sample = rollouts[i].sample
        given = sample.visuals if rollouts[i].text is not None or rollouts[i].made is not None else ()
        both = ("\n1: ", _shown(rollouts[j]), "\n2: ", _shown(rollouts[i]))
        asked = (sample.prompt, *both) if rollouts[i].text is not None else (*both, f"\n{sample.prompt}")
        user = (*given, *asked, f"\n{self.question}")
        return Reading(user=user, answer=None, owners=(i,), rival=j)

    def network(self, width: int) -> nn.Module:
        return nn.Identity()

    def verdicts(self, network: nn.Module, states: States) -> Verdicts:
        yes, no = (states.rows @ states.words(self.words).T).unbind(1)
        duels = Duels(logit=yes - no, first=states.owner, second=states.rival)
        alone = torch.bincount(states.owner, minlength=len(states.rollouts)) == 0
        nothing = float("nan")
        wins = states.mean(torch.sigmoid(duels.logit)).masked_fill(alone, nothing)
        return Verdicts(scores=states.mean(duels.logit).masked_fill(alone, nothing), parts={"wins": wins}, duels=duels)

    def reported(self, verdicts: Verdicts) -> torch.Tensor:
        return verdicts.parts["wins"]

    def prefers(self, verdicts: Verdicts, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        duels = verdicts.duels
        assert duels is not None, "a head of duels gives duels"
        count = len(verdicts.scores)
        table = duels.logit.new_zeros(count, count).index_put((duels.first, duels.second), duels.logit)
        return torch.sigmoid((table[first, second] - table[second, first]) / 2)


def _shown(rollout: Rollout) -> Piece:
    visual = rollout.visual
    if rollout.text is not None:
        return rollout.text
    assert visual is not None, "there is nothing to compare"
    return visual
