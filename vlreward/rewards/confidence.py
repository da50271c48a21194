"""How sure the policy was of what it wrote."""

from __future__ import annotations

from dataclasses import dataclass

from vlreward.errors import RewardError
from vlreward.registry import register
from vlreward.rewards.base import Reward
from vlreward.types import Rollout


@register("text_likelihood")
@dataclass(kw_only=True)
class TextLikelihood(Reward):
    """Geometric mean of the probabilities that the policy gave to the tokens of its text. In [0, 1].

    With weight 0 it is a column to watch, and the one that the advantage `lens` goes by. Only whoever generated the text knows it.

    Source: the length-normalised likelihood of LENS, arXiv 2510.08696, section 5.1.

    Known cheats: as a reward it pays for what the policy holds likely already, such as repetition, and so kills exploration (give it
    weight 0).
    """

    needs = ("text",)

    def one(self, rollout: Rollout) -> float:
        if rollout.likelihood is None:
            raise RewardError("nobody kept the probabilities of this text's tokens; they are known while a policy is trained")
        return rollout.likelihood
