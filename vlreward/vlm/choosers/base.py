"""How an answer is chosen at test time: several are written, and one is handed out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from vlreward.errors import ConfigError
from vlreward.rewards.composite import Composite
from vlreward.types import RewardTable, Rollout, Sample

if TYPE_CHECKING:
    from vlreward.vlm.writing import Writer


@dataclass(frozen=True)
class Choice:
    """The answer that is handed out, and what it took."""

    rollout: Rollout
    tokens: int
    """Tokens written for this sample, those of answers that were not chosen too."""
    answers: int
    """Answers begun for this sample."""


@dataclass(kw_only=True)
class Chooser:
    """Base of all choosers."""

    family: ClassVar[str] = "choosers"
    kind: ClassVar[str]

    def check(self) -> None:
        """Raise ConfigError, before anything is answered, where something is missing that it names."""

    def choose(self, writer: Writer, samples: Sequence[Sample], done: Callable[[int], None] = lambda count: None) -> list[Choice]:
        """One choice a sample, in order; `done` hears of each part of the samples."""
        raise NotImplementedError(f"{type(self).__name__} must define choose")


@dataclass(kw_only=True)
class Judged(Chooser):
    """Base of choosers that go by rewards, which may not look at the target: at test time nobody knows it."""

    by: Composite
    """The rewards, as in `rewards`."""
    oracle: bool = False
    """Let them look at the target all the same: the most that any judge could gain."""

    def __post_init__(self):
        for i, term in enumerate(self.by.terms):
            targets = [need for reward in Composite([term]).rewards for need in reward.needs if need.startswith("target.")]
            if targets and not self.oracle:
                raise ConfigError(
                    f"{term.reward.kind!r} reads {targets[0]!r}, which is not known at test time; take a reward that does not, or say "
                    "`oracle: true`",
                    f"by.{i}",
                )

    def judge(self, rollouts: Sequence[Rollout], device: object) -> tuple[list[float], RewardTable]:
        """Total of each, lowest where no reward applies or a judge broke; and the table they stand in."""
        hidden = rollouts if self.oracle else [replace(r, sample=replace(r.sample, target={})) for r in rollouts]
        table = self.by(hidden, str(device))
        return table.total.nan_to_num(nan=-float("inf")).tolist(), table


def best(scores: Sequence[float], rows: Sequence[int]) -> int:
    """The row that scores highest, the first of several."""
    return max(rows, key=lambda row: scores[row])
