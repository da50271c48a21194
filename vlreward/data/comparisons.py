"""Where comparisons come from: a file of preference pairs and rankings, or a generator of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from vlreward.data.media import Visual
from vlreward.data.records import FileSource, visuals_of
from vlreward.data.source import BadRow, check_files, whole
from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.types import Comparison, Rollout, Sample

PAIRS = {("chosen", "rejected"): "responses", ("chosen_picture", "rejected_picture"): "pictures"}
"""Columns of a pair -> the column of attempts that it stands for, the better one first."""


@dataclass(kw_only=True)
class Comparisons:
    """Base of all sources of comparisons: `{kind: file, path: ...}` (the default kind) or a generator, `{kind: tiny, task: reports}`."""

    family: ClassVar[str] = "comparisons"
    default_kind: ClassVar[str] = "file"

    def __iter__(self) -> Iterator[Comparison | BadRow]:
        """Comparisons in a fixed order; a row that is none comes as a BadRow."""
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")

    def comparisons(self) -> list[Comparison]:
        """All of them; any bad row is refused with its place, and so is a picture or clip that is not there. Raises DataError."""
        found = whole(self, Comparison, "comparisons")
        check_files((one.id, visual) for one in found for visual in _visuals(one))
        return found


@dataclass(kw_only=True)
class Attempts(FileSource):
    """Rows whose target may hold pictures."""

    attempts = ("chosen_picture", "rejected_picture", "pictures")


@register("file")
@dataclass(kw_only=True)
class FileComparisons(Comparisons):
    """Rows of files of any kind that samples are read from: `id?`, `prompt`, `image?` (or `images`, `video`: what it is about), then the
    attempts and how good they are.

    Attempts: `chosen` and `rejected` (texts), `chosen_picture` and `rejected_picture` (paths), or lists: `responses` (texts), `pictures`.
    Of lists one of: `scores` (one each, higher is better, equal is a tie), `ranks` (1 is best), `best` (the index of the one that won).
    Where known: `aspects` ({name: scores}), `steps` (for each attempt a list of [start, end, label] in characters, label in [0, 1]),
    `distributions` (for each attempt a teacher's probabilities of the levels), `subset`, `reference` (a trajectory of the target policy).
    Every other column goes into the sample's target.
    """

    path: Path
    pictures: str = ""
    """Folder that picture paths start from; the file's own by default."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field (id, prompt, visuals, target) -> the file's name for it, where it has another."""

    split: str = ""
    """Of a folder: which of its saved splits, or the files that have it in their name; all by default."""
    download: bool = False
    """`path` names a dataset of the hub, which may be fetched; what it holds is read as a folder."""

    def __post_init__(self):
        self._rows = Attempts(path=self.path, pictures=self.pictures, columns=self.columns, split=self.split, download=self.download)

    def __iter__(self) -> Iterator[Comparison | BadRow]:
        for number, row in enumerate(self._rows):
            if isinstance(row, BadRow):
                yield row
                continue
            try:
                yield self._comparison(row, number)
            except DataError as error:
                yield BadRow(row.id, str(error))

    def _comparison(self, row: Sample, number: int) -> Comparison:
        rest = dict(row.target)
        paired = None
        for names, column in PAIRS.items():
            if any(name in rest for name in names):
                rest[column], paired = [rest.pop(name, None) for name in names], names
        attempts = [column for column in ("responses", "pictures") if column in rest]
        if len(attempts) != 1:
            raise DataError(
                "has no attempts" if not attempts else "has texts and pictures as attempts; expected one of chosen, responses, pictures"
            )
        made = rest.pop(attempts[0])
        wanted = " and ".join(paired) if paired else attempts[0]
        if paired and None in made:
            lost, other = paired if made[0] is None else paired[::-1]
            there = f"; the row has {', '.join((other, *rest))} beside its prompt" if rest else ""
            raise DataError(f"has {other}, but {lost} is missing{there}")
        texts = attempts[0] == "responses"
        if not isinstance(made, list) or len(made) < 2 or not all(one and (isinstance(one, str) or not texts) for one in made):
            raise DataError(f"{wanted}: is {made!r}, expected at least two {'texts' if texts else 'paths'}")
        scores = (1.0, 0.0) if paired else _scores(rest, len(made))
        aspects = {str(name): _numbers(f"aspects.{name}", given, len(made)) for name, given in _named(rest, "aspects").items()}
        facts = {name: _each(name, rest.pop(name), len(made)) for name in ("steps", "distributions") if name in rest}
        if "steps" in facts:
            _check_steps(facts["steps"], made)
        sample = replace(row, target=rest)
        if texts:
            rollouts = [Rollout(sample=sample, text=text, group=number) for text in made]
        else:
            visuals = visuals_of(made, self._rows.folder, wanted)
            if isinstance(visuals, str):
                raise DataError(visuals)
            rollouts = [Rollout(sample=sample, made=visual, group=number) for visual in visuals]
        subset = str(rest.pop("subset", ""))
        return Comparison(id=row.id, rollouts=tuple(rollouts), scores=scores, aspects=aspects, subset=subset, facts=facts)


def _visuals(comparison: Comparison) -> Iterator[Visual]:
    """All that it shows, each once."""
    seen = [visual for one in comparison.rollouts for visual in (*one.sample.visuals, one.made) if visual is not None]
    yield from {id(visual): visual for visual in seen}.values()


def _scores(rest: dict[str, Any], count: int) -> tuple[float, ...]:
    """The scores of a row's attempts, by whichever column says them."""
    given = [name for name in ("scores", "ranks", "best") if name in rest]
    if len(given) != 1:
        raise DataError(f"has {' and '.join(given) or 'none'} of scores, ranks and best, expected one of them")
    value = rest.pop(given[0])
    if given[0] == "best":
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < count:
            raise DataError(f"best: is {value!r}, expected an index from 0 to {count - 1}")
        return tuple(float(i == value) for i in range(count))
    numbers = _numbers(given[0], value, count)
    return tuple(-number for number in numbers) if given[0] == "ranks" else numbers


def _numbers(name: str, value: Any, count: int) -> tuple[float, ...]:
    sound = isinstance(value, list) and all(isinstance(one, int | float) and not isinstance(one, bool) for one in value)
    if not sound or len(value) != count or not all(abs(one) < float("inf") for one in value):
        raise DataError(f"{name}: is {value!r}, expected {count} numbers, one an attempt")
    return tuple(float(one) for one in value)


def _named(rest: dict[str, Any], name: str) -> dict[str, Any]:
    value = rest.pop(name, {})
    if not isinstance(value, dict):
        raise DataError(f"{name}: is {value!r}, expected keys and values")
    return value


def _each(name: str, value: Any, count: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != count or not all(isinstance(one, list) for one in value):
        raise DataError(f"{name}: is {value!r}, expected {count} lists, one an attempt")
    return value


def _check_steps(steps: list[Any], made: list[str]) -> None:
    for spans, text in zip(steps, made, strict=True):
        for span in spans:
            numbers = isinstance(span, list) and len(span) == 3 and all(isinstance(one, int | float) for one in span)
            if not numbers or not 0 <= span[0] < span[1] <= len(text) or not 0 <= span[2] <= 1:
                raise DataError(f"steps: {span!r} is no [start, end, label] within {len(text)} characters, label in [0, 1]")


@register("chain")
@dataclass(kw_only=True)
class ChainComparisons(Comparisons):
    """The comparisons of several sources, one source after the other; training shuffles them.

    Text-only preferences beside multimodal ones, say, which helped BaseReward (arXiv 2509.16127).
    """

    of: tuple[Comparisons, ...]

    def __iter__(self) -> Iterator[Comparison | BadRow]:
        for source in self.of:
            yield from source
