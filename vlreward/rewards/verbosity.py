"""A reward that length cannot buy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vlreward.errors import ConfigError, DataError
from vlreward.registry import register
from vlreward.rewards.answers import final_answer, references
from vlreward.rewards.base import Reward
from vlreward.types import RewardOutput, Rollout


@register("length_controlled")
@dataclass(kw_only=True)
class LengthControlled(Reward):
    """`of` divided by how many times as many words the answer has as the reference, where it has more. In [0, 1].

    Words are what spaces separate, of the final answer or, where `tags` is false and there is none, of the whole text; of several
    references in `target.answer` the longest counts. An answer no longer than that keeps its score.

    Source: LC-GREEN of CheXalign, arXiv 2410.07025: score / max(relative verbosity, 1), there of the GREEN score.

    Known cheats: those of `of`, at the reference's length; words joined without spaces (a language without spaces is not controlled);
    text outside of the answer tags (free here: pair it with `answer_format`, or set `tags: false` and write none).

    Example: {keys: {of: rouge_l}, text: "<answer>the red cat the red cat</answer>", target: {answer: the red cat}} -> 0.333
    """

    of: Reward
    tags: bool = True
    needs = ("text", "target.answer")

    def __post_init__(self):
        if not all(0 <= bound <= 1 for bound in self.of.bounds):
            raise ConfigError(f"{self.of.kind} ranges over {list(self.of.bounds)}, expected a reward within [0, 1]", "of")
        self.scope = self.of.scope  # type: ignore[misc]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        judged = self.of.score(rollouts)
        errors, scores = list(judged.errors), judged.scores.clone()
        for row, rollout in enumerate(rollouts):
            try:
                scores[row] /= max(self.verbosity(rollout), 1.0)
            except DataError as error:
                errors[row] = errors[row] or str(error)
        return replace(judged, scores=scores, parts={"before": judged.scores}, errors=errors)

    def verbosity(self, rollout: Rollout) -> float:
        """Words of the answer over words of the reference."""
        text = rollout.text or ""
        found = final_answer(text)
        answer = found[0] if found else "" if self.tags else text
        return len(answer.split()) / max(len(wanted.split()) for wanted in references(rollout.sample.target))
