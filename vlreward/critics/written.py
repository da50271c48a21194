"""Rows that judges write from other rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from vlreward.data.source import BadRow, Source
from vlreward.types import Sample


@dataclass(kw_only=True)
class Written(Source):
    """Base of sources that write something for each sample of `of`, once however often they are read. Bad rows stay, in front."""

    of: Source

    def __iter__(self) -> Iterator[Sample | BadRow]:
        return iter(self._rows)

    @cached_property
    def _rows(self) -> list[Sample | BadRow]:
        rows = list(self.of)
        return [
            *(row for row in rows if isinstance(row, BadRow)),
            *self.write([row for row in rows if isinstance(row, Sample)]),
        ]

    def write(self, samples: Sequence[Sample]) -> Iterator[Sample | BadRow]:
        """Samples with what was written, those left out for which nothing could be; a judge that fails makes a BadRow."""
        raise NotImplementedError(f"{type(self).__name__} must define write")
