"""How a picture is made better at inference, with nothing trained: what a steer may use, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from vlreward.errors import ConfigError
from vlreward.flow.collect import Bind, Decode, visual
from vlreward.flow.evaluate import start
from vlreward.flow.models.base import Asked, Condition
from vlreward.flow.plan import Noise, Plan
from vlreward.flow.rollout import Velocity, rollout
from vlreward.rewards.composite import Composite
from vlreward.types import RewardTable, Rollout, Sample

Done = Callable[[int], None]


@dataclass
class Studio:
    """Everything that pictures of held-out samples are made with; counts what that takes."""

    bind: Bind
    decode: Decode
    plan: Plan
    """The ODE along the evaluation's sigmas."""
    shape: Sequence[int]
    seed: int
    batch: int
    """Rows of one forward pass, more where a single sample takes more."""
    device: str = "cpu"
    condition: Callable[[Sequence[str]], Condition] = lambda prompts: {}
    """What the network is told of prompts."""
    learn: Callable[[Sequence[Asked]], None] = lambda asked: None
    """Encodes prompts that are not those of the samples."""
    spent: dict[str, int] = field(default_factory=lambda: {"passes": 0, "judged": 0})
    """Rows that went through the network (guidance not counted twice), and pictures that were judged."""
    written: list[dict[str, Any]] = field(default_factory=list)
    """Rows on the prompts that were written anew."""

    def velocity(self, samples: Sequence[Sample]) -> Velocity:
        """The velocity on what these samples ask for."""
        bound = self.bind(samples)

        def counted(x: torch.Tensor, s: torch.Tensor, policy: str = "train") -> torch.Tensor:
            self.spent["passes"] += len(x)
            return bound(x, s, policy)

        return counted

    def judge(self, by: Composite, rollouts: Sequence[Rollout]) -> RewardTable:
        """The table of these rewards; a sample's target says what its prompt asks for, so they may read it."""
        self.spent["judged"] += len(rollouts)
        return by(rollouts, self.device)

    def noise(self, samples: Sequence[Sample], members: Sequence[int], step: int = -1) -> torch.Tensor:
        """[B,*]; of step -1 the start, which for member 0 is the one that the plain evaluation draws from."""
        if step < 0:
            return start(self.shape, samples, self.seed, members).to(self.device)
        keys = [("held out", sample.id, member, step) for sample, member in zip(samples, members, strict=True)]
        return Noise(self.seed).batch(self.shape, keys).to(self.device)

    def batches(self, samples: Sequence[Sample], each: int) -> Iterator[list[Sample]]:
        """The samples in parts of which each of `each` rows makes one batch."""
        size = max(1, self.batch // each)
        for first in range(0, len(samples), size):
            yield list(samples[first : first + size])

    def draw(self, samples: Sequence[Sample], members: Sequence[int], prompts: Sequence[str] | None = None) -> list[Rollout]:
        """A plain picture of each sample, from the start noise of these members; by other prompts than its own where they are given."""
        asked = samples if prompts is None else [replace(s, prompt=prompt) for s, prompt in zip(samples, prompts, strict=True)]
        if prompts:
            self.learn(asked)
        velocity = self.velocity(asked)
        return self.finished(samples, rollout(velocity, self.plan, self.noise(samples, members), lambda step: torch.empty(0)).x0)

    def finished(self, samples: Sequence[Sample], x0: torch.Tensor) -> list[Rollout]:
        """Clean ends [B,*] as rollouts of their samples; those of one sample are a group."""
        groups = {sample.id: number for number, sample in enumerate(samples)}
        pictures = self.decode(x0).cpu()
        return [Rollout(sample=s, made=visual(made), group=groups[s.id]) for s, made in zip(samples, pictures, strict=True)]


@dataclass(kw_only=True)
class Steer:
    """Base of all ways to steer at inference."""

    family: ClassVar[str] = "steers"
    kind: ClassVar[str]
    policies: ClassVar[frozenset[str]] = frozenset()
    """Named weights it asks for besides those that are evaluated."""

    def load(self, device: str) -> None:
        """Bring into memory what it steers by. Raises ConfigError where that is not there; nothing by default."""

    def steer(self, studio: Studio, samples: Sequence[Sample], done: Done = lambda count: None) -> list[Rollout]:
        """One rollout a sample, in order; `done` hears of each part of the samples."""
        raise NotImplementedError(f"{type(self).__name__} must define steer")


@dataclass(kw_only=True)
class Judged(Steer):
    """Base of steers that go by rewards."""

    by: Composite
    """The rewards, as in `rewards`; one that stands there with weight 0 watches what did not choose."""

    def __post_init__(self):
        for i, term in enumerate(self.by.terms):
            if "text" in term.reward.needs:
                raise ConfigError(f"is {term.reward.kind!r}, which judges text, but a generator makes pictures", f"by.{i}.kind")

    def load(self, device: str) -> None:
        self.by.load(device)


def best(rollouts: Sequence[Rollout], table: RewardTable, each: int) -> list[Rollout]:
    """Of every `each` rollouts in a row the one with the highest total, the first of several; one that was not judged comes last."""
    total = table.total.nan_to_num(nan=-float("inf")).view(-1, each)
    return [rollouts[row * each + int(place)] for row, place in enumerate(total.argmax(1))]
