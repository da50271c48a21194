"""Reasons for known preferences, written by a judge and kept where they lead to the preference by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vlreward.config import Count, NotNegative
from vlreward.critics.asking import asked
from vlreward.critics.parsing import Unreadable, choice
from vlreward.critics.templates import load_template
from vlreward.critics.written import Written
from vlreward.data.source import BadRow
from vlreward.errors import RewardError
from vlreward.models.judge import Judge
from vlreward.registry import register
from vlreward.types import Sample

TAGS = re.compile(r"</?(?:think|answer)>")


@register("rationalised")
@dataclass(kw_only=True)
class Rationalised(Written):
    """The tasks of `of` (`pairwise_tasks`) with reasons for the known verdict. target.chosen: reasons, then the verdict.

    The judge is told which attempt is better and explains why; then `checker`, the same judge unless another is given, reads the reasons
    without being told and names the better attempt. Only tasks on which it names the right one stay: the others' reasons did not carry
    the verdict. `preferences: given` with `trl.loss_type: sft` teaches them. Give the judge a `cache`, so that nothing is paid for twice.

    Source: RationalRewards, arXiv 2604.11626: preference-anchored rationalisation with a consistency filter. The words are ours.
    """

    judge: Judge
    checker: Judge | None = None
    temperature: NotNegative = 0.7
    """At which reasons are written."""
    max_tokens: Count = 1024
    explain: str = "rationalise"
    check: str = "rationale_check"

    def __post_init__(self):
        self._explain = load_template(self.explain, ("visuals", "task", "better"))
        self._check = load_template(self.check, ("visuals", "task", "reasons"))

    def write(self, samples: Sequence[Sample]) -> Iterator[Sample | BadRow]:
        known = [{"visuals": task.visuals, "task": task.prompt, "better": str(task.target["answer"])} for task in samples]
        questions = [self._explain.fill(values) for values in known]
        reasons = asked(self.judge, questions, written, self.temperature, self.max_tokens)
        good = [row for row, said in enumerate(reasons) if isinstance(said, str)]
        checks = [self._check.fill(known[row] | {"reasons": str(reasons[row])}) for row in good]
        named = dict(zip(good, asked(self.checker or self.judge, checks, lambda text: choice(text, 2)), strict=True))
        for row, task in enumerate(samples):
            broken = next((one for one in (reasons[row], named.get(row)) if isinstance(one, RewardError)), None)
            if broken:
                yield BadRow(task.id, str(broken))
            elif named.get(row) == int(task.target["answer"]):
                verdict = {side: f"<think>{reasons[row]}</think>{task.target[side]}" for side in ("chosen", "rejected")}
                yield replace(task, target={**task.target, **verdict, "analysis": reasons[row]})


def written(text: str) -> str:
    """Reasons without tags of their own, which would end a thought or name an answer. Raises Unreadable for none."""
    found = TAGS.sub("", text).strip()
    if not found:
        raise Unreadable("no reasons")
    return found
