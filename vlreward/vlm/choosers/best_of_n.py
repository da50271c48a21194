"""The best of several whole answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from vlreward.config import Bound
from vlreward.registry import register
from vlreward.rewards.agreement import Agreement
from vlreward.rewards.composite import Composite, Term
from vlreward.types import Sample
from vlreward.vlm.choosers.base import Choice, Chooser, Judged, best
from vlreward.vlm.writing import Writer


@register("best_of_n")
@dataclass(kw_only=True)
class BestOfN(Judged):
    """The one of `size` answers that the rewards in `by` like best.

    Judges that need no reference: `text_likelihood` (how sure the policy was), `agreement` (the majority, or the medoid of boxes),
    `sentence_agreement`, `clip_score`, a format or a length reward, or one of your own.

    Source: best-of-n sampling, arXiv 2009.01325; with rewards on segments M-HalDetect, arXiv 2308.06394; with set distances SDR.
    """

    size: Annotated[int, Bound(2)] = 8

    def choose(self, writer: Writer, samples: Sequence[Sample], done: Callable[[int], None] = lambda count: None) -> list[Choice]:
        choices: list[Choice] = []
        for first, part in writer.batches(samples, self.size):
            writing = writer.start(part, self.size, f"choose/{first}", first)
            writing.write()
            rollouts = writing.rollouts
            scores, _ = self.judge(rollouts, writer.policy.device)
            for number in range(len(part)):
                rows = range(number * self.size, (number + 1) * self.size)
                spent = sum(len(writing.tokens[row]) for row in rows)
                choices.append(Choice(rollouts[best(scores, rows)], spent, self.size))
            done(len(part))
        return choices


@register("self_consistency")
@dataclass(kw_only=True)
class SelfConsistency(Chooser):
    """The answer that most of `size` answers give; of boxes and spans the one that is most like all others, their medoid.

    It is `best_of_n` by `agreement`, of equals the first.

    Source: arXiv 2203.11171.
    """

    size: Annotated[int, Bound(2)] = 8
    of: Literal["answer", "boxes", "spans"] = "answer"

    def choose(self, writer: Writer, samples: Sequence[Sample], done: Callable[[int], None] = lambda count: None) -> list[Choice]:
        by = Composite([Term(name="agreement", weight=1.0, reward=Agreement(of=self.of))])
        return BestOfN(size=self.size, by=by).choose(writer, samples, done)
