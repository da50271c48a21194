"""Where samples come from: a file, or a generator of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from vlreward.data.media import Visual
from vlreward.errors import DataError
from vlreward.types import Sample

T = TypeVar("T")


@dataclass(frozen=True)
class BadRow:
    """A row that is no sample: where it stands and what is wrong with it."""

    id: str
    error: str


@dataclass(kw_only=True)
class Source:
    """Base of all sources: `{kind: file, path: ...}` (the default kind) or a generator such as `{kind: tiny, task: grounding}`."""

    family: ClassVar[str] = "sources"
    default_kind: ClassVar[str] = "file"

    def __iter__(self) -> Iterator[Sample | BadRow]:
        """Samples in a fixed order; a row that is none comes as a BadRow, so that scoring can report it and go on."""
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")

    def length(self) -> int | None:
        """How many rows there are, where that is known without making them."""
        return None

    def samples(self) -> list[Sample]:
        """All samples, for training: any bad row is refused with its place. Raises DataError."""
        return whole(self, Sample, "samples")


def named(source: Iterable) -> str:
    """A source in few words: the file it reads, else its kind."""
    return str(getattr(source, "path", None) or getattr(source, "kind", None) or source)


def whole(source: Iterable[T | BadRow], kind: type[T], what: str) -> list[T]:
    """All rows of a source, none of which may be bad. Raises DataError."""
    rows = list(source)
    bad = [row for row in rows if isinstance(row, BadRow)]
    if bad:
        more = f" (and {len(bad) - 1} more rows)" if len(bad) > 1 else ""
        raise DataError(f"{bad[0].id}: {bad[0].error}{more}")
    if not rows:
        raise DataError(f"{named(source)}: has no {what}")
    return [row for row in rows if isinstance(row, kind)]


def check_files(visuals: Iterable[tuple[str, Visual]]) -> None:
    """Raise DataError where a picture or clip is to be read from a file that is not there; each comes with the id of its row."""
    lost = [f"{row}: there is no file {visual.origin!r}" for row, visual in visuals if visual.missing]
    if lost:
        raise DataError(lost[0] + (f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""))
