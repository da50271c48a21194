"""Rubrics of a sample's own, written from what a committee of models answers to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlreward.config import Count, NotNegative
from vlreward.critics.asking import asked
from vlreward.critics.parsing import Unreadable, last_json
from vlreward.critics.templates import load_template, shown, task
from vlreward.critics.written import Written
from vlreward.data.source import BadRow
from vlreward.errors import ConfigError, RewardError
from vlreward.models.judge import Judge
from vlreward.registry import register
from vlreward.types import Rollout, Sample

HEAVIEST = 3


@register("committee_rubrics")
@dataclass(kw_only=True)
class CommitteeRubrics(Written):
    """The samples of `of` with target.rubric: criteria and weights 1 to 3 that `judge_rubric` takes.

    Each of the committee answers the prompt; `student`, the policy before it is trained, does too. The writer sees all answers, finds
    what most of the committee agree on, and turns what the student misses or gets wrong into criteria that can be checked. Give each
    a `cache`. A row that the writer has no readable rubric for is left out; a judge that fails makes a bad row.

    Source: RubiCap, arXiv 2603.09160. The words of the prompt are ours, and so is the range of weights.
    """

    committee: tuple[Judge, ...]
    writer: Judge
    student: Judge | None = None
    most: Count = 8
    """Criteria of a sample."""
    temperature: NotNegative = 0.0
    max_tokens: Count = 1024
    template: str = "write_rubric"

    def __post_init__(self):
        if len(self.committee) < 2:
            raise ConfigError(f"has {len(self.committee)}, expected at least two models that can agree", "committee")
        self._template = load_template(self.template, ("prompt", "committee"), ("visuals", "student", "most"))

    def write(self, samples: Sequence[Sample]) -> Iterator[Sample | BadRow]:
        prompts = [(*visuals(sample), sample.prompt) for sample in samples]
        sides = [*self.committee, *([self.student] if self.student else [])]
        said = [asked(side, prompts, answered, self.temperature, self.max_tokens) for side in sides]
        broken = {row: str(one[row]) for one in said for row in range(len(samples)) if not isinstance(one[row], str)}
        whole = [row for row in range(len(samples)) if row not in broken]
        questions = []
        for row in whole:
            answers = "\n\n".join(f"Answer {number}:\n{one[row]}" for number, one in enumerate(said[: len(self.committee)], 1))
            student = str(said[-1][row]) if self.student else "(none was given)"
            values = task(Rollout(sample=samples[row], text="")) | {"committee": answers, "student": student, "most": str(self.most)}
            questions.append(self._template.fill(values))
        written = asked(self.writer, questions, lambda text: rubric(text, self.most), 0.0, self.max_tokens)
        found = dict(zip(whole, written, strict=True))
        for row, sample in enumerate(samples):
            if row in broken or isinstance(found[row], RewardError):
                yield BadRow(sample.id, broken.get(row) or str(found[row]))
            elif not isinstance(found[row], Unreadable):
                yield replace(sample, target={**sample.target, "rubric": found[row]})


def visuals(sample: Sample) -> tuple[Any, ...]:
    """A sample's pictures, and frames of its clips."""

    return tuple(shown(sample.visuals, 8))


def answered(text: str) -> str:
    """An answer. Raises Unreadable for an empty one."""
    if not text.strip():
        raise Unreadable("an empty answer")
    return text.strip()


def rubric(text: str, most: int) -> list[dict[str, Any]]:
    """The last JSON list in a text, of criteria with weights 1 to 3. Raises Unreadable."""
    value = last_json(text)
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise Unreadable(f"no list of 1 to {most} criteria")
    for line in value:
        named = isinstance(line, dict) and isinstance(line.get("criterion"), str) and line["criterion"].strip()
        weight = line.get("weight") if isinstance(line, dict) else None
        if not named or isinstance(weight, bool) or not isinstance(weight, int | float) or not 1 <= weight <= HEAVIEST:
            raise Unreadable(f"{str(line)[:60]!r} is no criterion with a weight from 1 to {HEAVIEST}")
    return [{"criterion": line["criterion"].strip(), "weight": float(line["weight"])} for line in value]
