"""Where preference pairs come from: a pass with the policy, another run's rollouts, or the data itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from vlreward.config import Bound, Count, NotNegative, Positive
from vlreward.errors import ConfigError, DataError
from vlreward.registry import register
from vlreward.rewards.composite import Composite
from vlreward.run import Run, RunFolder
from vlreward.types import Rollout, Sample, Segment
from vlreward.vlm.preferences.pairs import Answer, Pair, mine
from vlreward.vlm.writing import Writer


@dataclass(kw_only=True)
class Preferences:
    """Base of all sources of pairs."""

    family: ClassVar[str] = "preferences"
    default_kind: ClassVar[str] = "sampled"

    def pairs(
        self, samples: Sequence[Sample], writer: Writer, rewards: Composite, labels: str | None, done: Callable[[int], None]
    ) -> list[Pair]:
        """At most one pair a sample. `labels` is the term whose segments the pairs carry; `done` hears of each part of the samples."""
        raise NotImplementedError(f"{type(self).__name__} must define pairs")


@dataclass(kw_only=True)
class Mined(Preferences):
    """Base of sources that judge answers by the configuration's rewards."""

    margin: NotNegative = 0.0
    """The better answer's total is higher by this at least, and in any case higher."""
    length_ratio: Annotated[float, Bound(1)] | None = None
    """The longer answer of a pair has at most so many times the tokens of the shorter, so that length itself is not preferred."""

    def judged(self, rollouts: Sequence[Rollout], rewards: Composite, device: Any, labels: str | None) -> list[Pair]:
        """The pairs among these rollouts."""
        return list(mine(rollouts, rewards(rollouts, str(device)), self.margin, self.length_ratio, labels))


@register("sampled")
@dataclass(kw_only=True)
class Sampled(Mined):
    """Answers of the policy to each sample, judged by the rewards; best against worst.

    Source: preference pairs from sampled reports and automated judges, CheXalign (arXiv 2410.07025), which takes 4 answers.
    """

    size: Annotated[int, Bound(2)] = 4
    """Answers to each sample."""
    temperature: Positive = 1.0
    batch: Count = 64
    """Answers that are written at a time."""

    def pairs(
        self, samples: Sequence[Sample], writer: Writer, rewards: Composite, labels: str | None, done: Callable[[int], None]
    ) -> list[Pair]:
        found: list[Pair] = []
        for first, part in writer.batches(samples, self.size):
            writing = writer.start(part, self.size, f"preferences/{first}", first)
            writing.write()
            found += self.judged(writing.rollouts, rewards, writer.policy.device, labels)
            done(len(part))
        return found


@register("logged")
@dataclass(kw_only=True)
class Logged(Mined):
    """Answers that another run has logged for the same samples, judged anew by the rewards; best against worst.

    A training logs four of each step; `logged` in its configuration keeps more.
    """

    run: Path
    """The run's folder."""

    def __post_init__(self):
        if not (self.run / "rollouts.jsonl").is_file():
            raise ConfigError(f"is {str(self.run)!r}, expected a run folder with rollouts.jsonl", "run")

    def pairs(
        self, samples: Sequence[Sample], writer: Writer, rewards: Composite, labels: str | None, done: Callable[[int], None]
    ) -> list[Pair]:
        numbers = {sample.id: i for i, sample in enumerate(samples)}
        rows = RunFolder(self.run, Run(name=self.run.resolve().name)).read("rollouts.jsonl")
        known = [row for row in rows if row.get("id") in numbers and row.get("text") is not None]
        if not known:
            raise DataError(f"{self.run / 'rollouts.jsonl'}: no rollout is of a sample of this run's data")
        rollouts = [Rollout(sample=samples[numbers[row["id"]]], text=row["text"], group=numbers[row["id"]]) for row in known]
        rollouts.sort(key=lambda rollout: rollout.group)
        done(len(samples))
        return self.judged(rollouts, rewards, writer.policy.device, labels)


@register("given")
@dataclass(kw_only=True)
class Given(Preferences):
    """Pairs that the data holds: `chosen` and `rejected` in each row, and `chosen_segments`, `rejected_segments` where spans are labelled.

    Segments are lists of `[start, end, reward]` in characters. A row with `chosen` alone is one labelled answer (M-HalDetect).
    """

    def pairs(
        self, samples: Sequence[Sample], writer: Writer, rewards: Composite, labels: str | None, done: Callable[[int], None]
    ) -> list[Pair]:
        done(len(samples))
        return [Pair(sample=sample, chosen=_side(sample, "chosen"), rejected=_side(sample, "rejected")) for sample in samples]


def _side(sample: Sample, name: str) -> Answer:
    alone = name == "rejected" and "rejected" not in sample.target and "chosen_segments" in sample.target
    text = sample.target.get("chosen" if alone else name)
    if not isinstance(text, str) or not text:
        raise DataError(f"{sample.id}: {name} is {text!r}, expected a text")
    spans = [] if alone else sample.target.get(f"{name}_segments", [])
    sound = isinstance(spans, list) and all(isinstance(span, list) and len(span) == 3 for span in spans)
    if not sound or not all(0 <= start < end <= len(text) for start, end, _ in spans):
        raise DataError(f"{sample.id}: {name}_segments is {spans!r}, expected [start, end, reward] within {len(text)} characters")
    return Answer(text=text, segments=tuple(Segment(start=start, end=end, reward=float(reward)) for start, end, reward in spans))
