"""Do the reasons of a text lead to its answer?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.answers import ExactMatch, split_answer
from vlreward.rewards.base import Reward
from vlreward.rewards.reasoner import OrderReasoner, Reasoner
from vlreward.rewards.tagged import inside
from vlreward.types import RewardOutput, Rollout


@register("reasoned_answer")
@dataclass(kw_only=True)
class ReasonedAnswer(Reward):
    """What `of` gives to the answer that follows from the text's reasons alone. In the bounds of `of`.

    Reasons are the inside of the last `<think>...</think>`, or what stands before the last `<answer>...</answer>`, or all of the text.
    A `reasoner` reads them without the picture and without the answer: `order` by rules for order, depth and orientation, where
    reasons that contradict themselves lead nowhere; `language_model` by asking a model. Where nothing follows, `of` judges an empty
    answer.

    Source: the logic reward of SURDS, arXiv 2411.13112, where the trained model itself answers from its thoughts; a frozen one here, so
    that the judge does not drift with the policy.

    Known cheats: reasons that merely state the answer (a language model takes them; `order` reads claims and places only); claiming both
    directions, so that one is right (leads nowhere by `order`); right reasons under a wrong answer (worth all of it here: weigh in a
    reward on the answer, as SURDS does).

    Example: {text: "The cat is left of the dog.<answer>no</answer>", target: {question: {subject: dog, relation: right of, object: cat}, answer: "yes"}} -> 1
    """  # noqa: E501

    of: Reward = field(default_factory=ExactMatch)
    reasoner: Reasoner = field(default_factory=OrderReasoner)

    def __post_init__(self):
        self.bounds, self.scope = self.of.bounds, self.of.scope  # type: ignore[misc]
        self.needs = ("text", *self.reasoner.needs, *(need for need in self.of.needs if need != "text"))  # type: ignore[misc]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        found: list[str | None] = []
        errors: list[str | None] = [None] * len(rollouts)
        try:
            found += self.reasoner.infer([rollout.sample for rollout in rollouts], [reasons(rollout.text or "") for rollout in rollouts])
        except DataError:
            for row, rollout in enumerate(rollouts):
                try:
                    found += self.reasoner.infer([rollout.sample], [reasons(rollout.text or "")])
                except DataError as error:
                    found.append(None)
                    errors[row] = str(error)
        judged = self.of.score([replace(r, text=f"<answer>{a}</answer>" if a else "") for r, a in zip(rollouts, found, strict=True)])
        notes = [f"reasons lead to {answer or 'nothing'}" for answer in found]
        errors = [ours or theirs for ours, theirs in zip(errors, judged.errors, strict=True)]
        return replace(judged, notes=notes, errors=errors, segments=[[] for _ in rollouts])


def reasons(text: str) -> str:
    """What a text gives as reasons, without its answer."""
    span = inside(text, "think")
    if span:
        return text[slice(*span)]
    found = split_answer(text)
    return found[0] if found else text
