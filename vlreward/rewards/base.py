"""The reward: a plain object that judges rollouts, one by one or in a batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Literal

import torch

from vlreward.errors import ConfigError, DataError, RewardError, UserError, under
from vlreward.types import RewardOutput, Rollout


@dataclass(kw_only=True)
class Reward:
    """Base of all rewards; the subclass's fields are its configuration keys.

    Override `one` (a score, or a score with a note, for one rollout) or `batch` (a RewardOutput for several). Callers use `score`.
    Three outcomes: a low number (judged, and bad), NaN (does not apply), RewardError (the judge broke). A malformed answer is the first.
    """

    family: ClassVar[str] = "rewards"
    kind: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    """Of 'text', 'visual', 'actions', 'target.<name>'; a rollout that lacks one gets NaN without the reward being called."""
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    """Checked at every call; a score outside counts as a broken judge."""
    scope: ClassVar[Literal["rollout", "group"]] = "rollout"
    """'group': `batch` is called with whole groups, since a score depends on the others of its group."""
    differentiable: ClassVar[bool] = False
    """True: scores carry gradient to `made`."""
    waits: ClassVar[bool] = False
    """True: scoring mostly waits for other processes or machines, so a training calls it in a thread and goes on meanwhile."""

    def load(self, device: str) -> None:
        """Bring models into memory; called once, before the first score, after the rewards, detectors and judges among the fields."""

    def stop(self) -> None:
        """End what `batch` is waiting for in another thread; called where a run is interrupted."""

    @property
    def memory(self) -> dict[str, float]:
        """What a reward goes by from earlier batches; empty for nearly all. A training keeps it with its checkpoints."""
        return self.__dict__.setdefault("_memory", {})

    def one(self, rollout: Rollout) -> float | tuple[float, str]:
        """The score of one rollout, alone or with a note for the reader."""
        raise NotImplementedError(f"{type(self).__name__} must define `one` or `batch`")

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        """Scores of several rollouts; by default one after the other, so that one failure costs one row."""
        scores, notes, errors = [], [], []
        for rollout in rollouts:
            score, note, error = float("nan"), "", None
            try:
                result = self.one(rollout)
                number, note = result if isinstance(result, tuple) else (result, "")
                score = float(number)
            except NotImplementedError:
                raise
            except (Exception, SystemExit) as failure:
                error = explain(failure)
            scores.append(score)
            notes.append(note)
            errors.append(error)
        return RewardOutput(scores=torch.tensor(scores, dtype=torch.float64), notes=notes, errors=errors)

    def score(self, rollouts: Sequence[Rollout], device: str = "cpu") -> RewardOutput:
        """Judge B rollouts: skips those that lack what the reward needs, contains failures, checks bounds."""
        self.prepare(device)
        missing = {row for need in self.needs for row in lacking(rollouts, need)}
        rows = [row for row in range(len(rollouts)) if row not in missing] if missing else range(len(rollouts))
        chosen = [rollouts[row] for row in rows] if missing else rollouts
        try:
            output = self.batch(chosen) if chosen else RewardOutput(scores=torch.zeros(0, dtype=torch.float64))
            _check_shape(output, len(chosen))
        except NotImplementedError:
            raise
        except (Exception, SystemExit) as failure:
            output = failed(len(chosen), explain(failure))
        self._check(output)
        return output if len(rows) == len(rollouts) else spread(output, rows, len(rollouts))

    def prepare(self, device: str = "cpu") -> None:
        """Load once, what it is made of first; later calls do nothing. Raises ConfigError."""
        if not self.__dict__.get("_loaded"):
            self._check_class()
            for key, one in inner(self):
                with under(key):
                    one.prepare(device) if isinstance(one, Reward) else one.load(device)
            try:
                self.load(device)
            except UserError:
                raise
            except Exception as failure:
                if not hasattr(self, "origin"):  # a shipped reward's failure is ours
                    raise
                raise ConfigError(f"{type(self).__name__} cannot be loaded: {explain(failure)}") from failure
            self.__dict__["_loaded"] = True

    def _check_class(self) -> None:
        """Raise ConfigError for a class that is no whole reward."""
        cls = type(self)
        if cls.one is Reward.one and cls.batch is Reward.batch and cls.score is Reward.score:
            raise ConfigError(f"{cls.__name__} defines neither `one` nor `batch`")
        for need in self.needs:
            if need not in ("text", "visual", "actions") and not need.startswith("target."):
                raise ConfigError(f"{cls.__name__} needs {need!r}, expected 'text', 'visual', 'actions' or 'target.<name>'")

    def _check(self, output: RewardOutput) -> None:
        low, high = self.bounds
        slack = 1e-6 * max(1.0, high - low if math.isfinite(high - low) else 1.0)
        for i, score in enumerate(output.scores.tolist()):
            if score < low - slack or score > high + slack:
                output.errors[i] = output.errors[i] or f"scored {score:g}, outside of its bounds [{low:g}, {high:g}]"
            elif math.isinf(score):
                output.errors[i] = output.errors[i] or f"scored {score:g}, expected a finite number"
        if any(output.errors):
            output.scores = output.scores.masked_fill(output.broken, float("nan"))


def _check_shape(output: Any, count: int) -> None:
    """Raise RewardError for what is no RewardOutput of so many rollouts."""
    if not isinstance(output, RewardOutput):
        raise RewardError(f"`batch` gave a {type(output).__name__}, expected a RewardOutput")
    if output.scores.shape != (count,) or len(output.errors) != count:
        raise RewardError(f"`batch` gave {tuple(output.scores.shape)} scores and {len(output.errors)} errors for {count} rollouts")


def lacking(rollouts: Sequence[Rollout], need: str) -> list[int]:
    """The rows that do not carry what a reward's `needs` names."""
    if need == "text":
        return [row for row, rollout in enumerate(rollouts) if rollout.text is None]
    if need == "visual":
        return [row for row, rollout in enumerate(rollouts) if rollout.visual is None]
    if need == "actions":
        return [row for row, rollout in enumerate(rollouts) if rollout.actions is None]
    assert need.startswith("target."), f"unknown need {need!r}; a need is 'text', 'visual', 'actions' or 'target.<name>'"
    name = need.removeprefix("target.")
    return [row for row, rollout in enumerate(rollouts) if rollout.sample.target.get(name) is None]


def has(rollout: Rollout, need: str) -> bool:
    """Whether a rollout carries what a reward's `needs` names."""
    return not lacking([rollout], need)


def inner(part: Any) -> Iterator[tuple[str, Any]]:
    """Key and value of each reward, detector, judge and the like among the fields of a part, and of its settings that are not parts."""
    for field in fields(part):
        value = getattr(part, field.name)
        several = enumerate(value) if isinstance(value, tuple) else value.items() if isinstance(value, Mapping) else [(None, value)]
        for name, one in several:
            key = field.name if name is None else f"{field.name}.{name}"
            if hasattr(one, "load"):
                yield key, one
            elif is_dataclass(one):
                yield from ((f"{key}.{rest}", found) for rest, found in inner(one))


def walk(reward: Reward) -> Iterator[Reward]:
    """A reward and every reward among its fields, theirs too."""
    yield reward
    for _, one in inner(reward):
        if isinstance(one, Reward):
            yield from walk(one)


def by_group(rollouts: Sequence[Rollout]) -> list[list[int]]:
    """The rows of each group, in the order in which groups first appear."""
    rows: dict[int, list[int]] = {}
    for i, rollout in enumerate(rollouts):
        rows.setdefault(rollout.group, []).append(i)
    return list(rows.values())


def spread(output: RewardOutput, rows: Sequence[int], count: int) -> RewardOutput:
    """The output for `rows` laid into one for `count` rollouts, NaN elsewhere."""

    def lay(values: torch.Tensor) -> torch.Tensor:
        index = torch.tensor(rows, dtype=torch.long, device=values.device)
        return torch.full((count,), float("nan"), dtype=values.dtype, device=values.device).index_copy(0, index, values)

    wide = RewardOutput(scores=lay(output.scores), parts={name: lay(values) for name, values in output.parts.items()})
    for place, row in enumerate(rows):
        wide.notes[row], wide.errors[row] = output.notes[place], output.errors[place]
        wide.segments[row], wide.marks[row] = output.segments[place], output.marks[place]
    return wide


def failed(count: int, error: str) -> RewardOutput:
    """The output of a judge that broke on all of `count` rollouts."""
    return RewardOutput(scores=torch.full((count,), float("nan"), dtype=torch.float64), errors=[error] * count)


def explain(failure: BaseException) -> str:
    """One line that names a failure."""
    text = str(failure).strip().splitlines()
    if isinstance(failure, RewardError | DataError) and text:
        return text[0]
    return f"{type(failure).__name__}: {text[0] if text else 'no message'}"
