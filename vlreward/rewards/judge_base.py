"""What rewards have in common whose judge writes: a template, votes, and answers that are read strictly."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, TypeVar

import torch

from vlreward.config import Count, NotNegative
from vlreward.critics.asking import AGAIN
from vlreward.critics.parsing import Unreadable
from vlreward.critics.templates import Parts, Template, attempt, load_template, task
from vlreward.data.media import Clip, Picture
from vlreward.errors import ConfigError, DataError, RewardError
from vlreward.models.judge import Answer, Judge, Sampling, Turn
from vlreward.rewards.base import Reward, explain
from vlreward.types import RewardOutput, Rollout

T = TypeVar("T")


@dataclass(frozen=True)
class Vote(Generic[T]):
    """One answer: what was read from it, and its words."""

    value: T
    text: str


@dataclass(kw_only=True)
class Judging(Reward):
    """Base of rewards whose judge writes."""

    places: ClassVar[tuple[str, ...]] = ("attempt",)
    """What the template must show."""
    offered: ClassVar[tuple[str, ...]] = ("prompt", "visuals")
    """What it may show too."""
    judge: Judge
    """`{kind: endpoint, url: ..., model: ...}` or `{kind: local, model: FOLDER}`."""
    template: str = ""
    """A shipped prompt's name, or the path of a .md file of your own; empty is the reward's usual one."""
    votes: Count = 1
    """Answers to each question, which are averaged; at least half of them must be readable."""
    temperature: NotNegative = 0.0
    """At which answers are written; 0 writes the likeliest."""
    max_tokens: Count = 1024
    """Of an answer."""
    frames: Count = 8
    """How many frames the judge is shown of a clip."""

    def __post_init__(self):
        if self.votes > 1 and not self.temperature:
            raise ConfigError(f"is {self.votes}, but at temperature 0 all votes are the same; set `temperature`", "votes")
        self.template = self.template or self.usual()
        self._template = self.loaded(self.template)
        self.waits = self.judge.waits  # type: ignore[misc]

    def usual(self) -> str:
        """The name of the template where none is given."""
        return self.kind

    def loaded(self, name: str) -> Template:
        """A template that shows what this reward fills in. Raises ConfigError."""
        return load_template(name, self.places, self.offered)

    def stop(self) -> None:
        self.judge.stop()

    def ask(
        self, questions: Sequence[Sequence[Turn]], read: Callable[[Answer], T], options: int = 0, who: Judge | None = None
    ) -> list[list[Vote[T]] | RewardError]:
        """The readable votes on each question, or why there are too few. Questions that are alike are asked once.

        `read` raises Unreadable; such an answer is asked for once more, with chance, and does not count if that cannot be read either.
        """
        keys = [tuple((turn.role, *(part if isinstance(part, str) else id(part) for part in turn.parts)) for turn in q) for q in questions]
        distinct = list(dict(zip(keys, questions, strict=True)).items())
        jobs = [(number, vote) for number in range(len(distinct)) for vote in range(self.votes)]
        how = [Sampling(temperature=self.temperature, max_tokens=self.max_tokens, seed=vote, options=options) for _, vote in jobs]
        judge = who or self.judge
        found = [reading(answer, read) for answer in judge.ask([distinct[number][1] for number, _ in jobs], how)]
        lost = [place for place, vote in enumerate(found) if isinstance(vote, Unreadable)]
        if lost:
            later = [replace(how[place], temperature=max(self.temperature, AGAIN), seed=how[place].seed + self.votes) for place in lost]
            asked = judge.ask([distinct[jobs[place][0]][1] for place in lost], later)
            for place, answer in zip(lost, asked, strict=True):
                found[place] = reading(answer, read)
        settled = {key: settle(found[number * self.votes : (number + 1) * self.votes]) for number, (key, _) in enumerate(distinct)}
        return [settled[key] for key in keys]

    def shown(self, parts: Parts) -> tuple[Turn, ...]:
        """A question of one turn."""
        return (Turn(parts=parts),)


@dataclass(kw_only=True)
class Alone(Judging):
    """Base of those that judge an attempt by itself."""

    def filled(self, rollout: Rollout) -> list[Sequence[Turn]]:
        """The questions about one rollout. Raises DataError where its row has not what it takes."""
        return [self.shown(self._template.fill(task(rollout) | {"attempt": attempt(rollout)}, self.frames))]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        output = RewardOutput(scores=torch.full((len(rollouts),), float("nan"), dtype=torch.float64))
        questions: list[Sequence[Turn]] = []
        places: dict[int, list[int]] = {}
        for row, rollout in enumerate(rollouts):
            if not attempt(rollout):
                continue
            try:
                asked = self.filled(rollout)
                decode(asked)
            except DataError as error:
                output.errors[row] = explain(error)
                continue
            places[row] = list(range(len(questions), len(questions) + len(asked)))
            questions += asked
        self.judged(rollouts, output, places, questions)
        return output

    def judged(
        self, rollouts: Sequence[Rollout], output: RewardOutput, places: dict[int, list[int]], questions: Sequence[Sequence[Turn]]
    ) -> None:
        """Ask, and write into the output; `places` are each row's questions."""
        raise NotImplementedError(f"{type(self).__name__} must define judged")


def reading(answer: Answer | RewardError, read: Callable[[Answer], T]) -> Vote[T] | Unreadable | RewardError:
    """An answer with what was read from it."""
    if isinstance(answer, RewardError):
        return answer
    try:
        return Vote(read(answer), answer.text)
    except Unreadable as error:
        return Unreadable(f"the judge's answer cannot be read ({error}): {' '.join(answer.text.split())[-120:]!r}")
    except RewardError as error:
        return error


def settle(votes: Sequence[Vote[T] | Unreadable | RewardError]) -> list[Vote[T]] | RewardError:
    """The votes that count, if they are half of all."""
    kept = [vote for vote in votes if isinstance(vote, Vote)]
    if kept and 2 * len(kept) >= len(votes):
        return kept
    return RewardError(str(next(vote for vote in votes if not isinstance(vote, Vote))))


def decode(questions: Sequence[Sequence[Turn]]) -> None:
    """Read all pictures of a row's questions. Raises DataError, so that a broken one costs its own row."""
    for turn in (turn for question in questions for turn in question):
        for part in turn.parts:
            if isinstance(part, Picture):
                _ = part.pil


def entropy(values: Sequence[float]) -> float:
    """Of the distinct values among votes, in nats: 0 where all agree."""
    shares = [count / len(values) for count in Counter(round(value, 9) for value in values).values()]
    return -sum(share * math.log(share) for share in shares)


def column(count: int) -> torch.Tensor:
    """[count] float64, all NaN"""
    return torch.full((count,), float("nan"), dtype=torch.float64)


def noted(text: str) -> str:
    """A judge's words on one line."""
    return " ".join(text.split())[:600]


def first_picture(visual: Picture | Clip | None) -> Picture:
    """A picture, or the first frame of a clip."""
    assert visual is not None, "asked of rollouts with a visual only"
    return visual.pictures[0] if isinstance(visual, Clip) else visual
