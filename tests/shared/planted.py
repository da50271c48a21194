"""A policy whose answers are known beforehand, and a judge that adds up numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from vlreward.errors import RewardError
from vlreward.rewards.base import Reward
from vlreward.rewards.composite import Composite, Term
from vlreward.types import Rollout, Sample


@dataclass
class Planted:
    """Writes a token (a word) at a time of the answers that a prompt has in `answers`, in order."""

    answers: dict[str, list[str]]
    batch: int = 64
    asked: list[str] = field(default_factory=list)
    policy: Any = field(default_factory=lambda: SimpleNamespace(device="cpu"))
    processor: Any = None
    temperature: float = 1.0
    max_new_tokens: int = 99
    least: int = 0
    instead: str = ""

    def batches(self, samples: Sequence[Sample], size: int):
        step = max(1, self.batch // size)
        for first in range(0, len(samples), step):
            yield first, samples[first : first + step]

    def start(self, samples: Sequence[Sample], size: int, seed: str, first_group: int = 0) -> PlantedWriting:
        texts = []
        for sample in samples:
            past = self.asked.count(sample.prompt)
            texts += [self.answers[sample.prompt][past + i] for i in range(size)]
            self.asked += [sample.prompt] * size
        return PlantedWriting([sample for sample in samples for _ in range(size)], texts, size, first_group)


class PlantedWriting:
    def __init__(self, samples, texts, size, first_group):
        self.samples, self.texts, self.size, self.first_group = samples, [text.split(" ") for text in texts], size, first_group
        self.tokens: list[list[str]] = [[] for _ in texts]
        self.live = list(range(len(texts)))

    def write(self, count=None):
        for row in self.live:
            self.tokens[row] = self.texts[row][: len(self.tokens[row]) + (count or 99)]
        self.live = [row for row in self.live if len(self.tokens[row]) < len(self.texts[row])]

    def drop(self, rows):
        self.live = [row for row in self.live if row not in rows]

    @property
    def rollouts(self):
        return [
            Rollout(sample=sample, text=" ".join(tokens), group=self.first_group + i // self.size, num_tokens=len(tokens))
            for i, (sample, tokens) in enumerate(zip(self.samples, self.tokens, strict=True))
        ]


@dataclass(kw_only=True)
class Worth(Reward):
    """The sum of the numbers in a text; 'x' breaks the judge. Sees and keeps each target."""

    kind = "worth"
    needs = ("text",)
    bounds = (0.0, 100.0)

    def one(self, rollout):
        self.__dict__.setdefault("seen", []).append(dict(rollout.sample.target))
        words = (rollout.text or "").split()
        if "x" in words:
            raise RewardError("no answer")
        return float(sum(int(word) for word in words)), f"worth {words}"


@dataclass(kw_only=True)
class Wants(Worth):
    """The same, of samples with a target."""

    kind = "wants"
    needs = ("text", "target.answer")


def by(reward: Reward | None = None) -> Composite:
    return Composite([Term(name="worth", weight=1.0, reward=reward or Worth())])


SAMPLES = [Sample(id="a", prompt="A", target={"answer": "9"}), Sample(id="b", prompt="B", target={"answer": "8"})]
