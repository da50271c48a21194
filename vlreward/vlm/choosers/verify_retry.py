"""An answer is judged before it is handed out, and what fails is written again."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vlreward.config import Count
from vlreward.errors import ConfigError
from vlreward.registry import register
from vlreward.types import Rollout, Sample
from vlreward.vlm.choosers.base import Choice, Judged
from vlreward.vlm.writing import Writer

PLACE = re.compile(r"\{(prompt|answer|feedback)\}")


@register("verify_retry")
@dataclass(kw_only=True)
class VerifyRetry(Judged):
    """An answer that the rewards in `by` give less than `at_least` is written again, up to `tries` times; the best one is handed out.

    Who passes at once costs one answer, so the budget goes to the samples that need it. The judge only judges: what it says goes back to
    the policy, with its answer, in the prompt `again`, and the policy mends. In `again`, {prompt}, {answer} and {feedback} stand for the
    first prompt, the last answer and the judges' notes; "{prompt}" alone asks anew.

    Source: MACT, arXiv 2508.03404: a judgment agent apart from the one that corrects, and test-time compute by need. All of its agents
    are in `agents`.
    """

    at_least: float
    tries: Count = 4
    """Answers to a sample, the first one included."""
    again: str = "{prompt}\n\nAn earlier answer was: {answer}\nA judge found: {feedback}\nAnswer again."

    def __post_init__(self):
        super().__post_init__()
        if "{prompt}" not in self.again:
            raise ConfigError("has no {prompt}, so that the question would be lost", "again")
        for i, term in enumerate(self.by.terms):
            if term.reward.scope == "group":
                raise ConfigError(f"{term.reward.kind!r} compares answers with each other, but here each is judged alone", f"by.{i}")

    def choose(self, writer: Writer, samples: Sequence[Sample], done: Callable[[int], None] = lambda count: None) -> list[Choice]:
        choices: list[Choice] = []
        for first, part in writer.batches(samples, 1):
            tries: list[list[tuple[float, Rollout]]] = [[] for _ in part]
            asked: list[Sample] = list(part)
            left = list(range(len(part)))
            for turn in range(self.tries):
                writing = writer.start([asked[number] for number in left], 1, f"choose/{first}/{turn}")
                writing.write()
                rollouts = [
                    replace(rollout, sample=part[number], group=first + number)
                    for number, rollout in zip(left, writing.rollouts, strict=True)
                ]
                scores, table = self.judge(rollouts, writer.policy.device)
                for row, (number, rollout) in enumerate(zip(left, rollouts, strict=True)):
                    tries[number].append((scores[row], rollout))
                    found = [table.outputs[name].notes[row] for name in table.names]
                    said = "; ".join(filter(None, found + table.errors(row)))
                    asked[number] = replace(part[number], prompt=self.prompt(part[number], rollout.text or "", said))
                left = [number for number in left if tries[number][-1][0] < self.at_least]
                if not left:
                    break
            for found in tries:
                _, rollout = max(found, key=lambda one: one[0])
                choices.append(Choice(rollout, sum(one.num_tokens or 0 for _, one in found), len(found)))
            done(len(part))
        return choices

    def prompt(self, sample: Sample, answer: str, feedback: str) -> str:
        """The prompt of the next try. What stands in the answer is never read as a place of its own."""
        text = {"prompt": sample.prompt, "answer": answer, "feedback": feedback or "not good enough"}
        return PLACE.sub(lambda found: text[found.group(1)], self.again)
