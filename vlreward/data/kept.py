"""What a scoring run kept of its data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlreward.config import locate
from vlreward.data.source import BadRow, Source, named
from vlreward.data.tables import rows_of
from vlreward.errors import ConfigError, DataError
from vlreward.registry import register
from vlreward.types import Sample

FILE = "kept.jsonl"
"""In the folder of a scoring run."""


@register("kept")
@dataclass(kw_only=True)
class Kept(Source):
    """The samples of `of` that `vlreward score` kept, in the order of `of`; `run` is the folder of that scoring run.

    They are found by their ids, so nothing is copied, pictures in shards least of all. Data that is no longer what was scored (an id
    that is gone, or has other words) is refused with a DataError.
    """

    of: Source
    run: Path

    def __post_init__(self):
        self.run = locate(self.run)
        if not (self.run / FILE).is_file():
            wanted = "`vlreward score` writes one where its configuration has `keep`"
            raise ConfigError(f"there is no {FILE} in {str(self.run)!r}; {wanted}", "run")

    def __iter__(self) -> Iterator[Sample | BadRow]:
        words = self._words()
        for row in self.of:
            if isinstance(row, Sample) and row.id in words:
                if words.pop(row.id) != row.prompt:
                    raise DataError(f"{row.id}: its words are not those that were scored in {self.run}; score these rows again")
                yield row
        if words:
            more = f" (and {len(words) - 1} more)" if len(words) > 1 else ""
            raise DataError(
                f"{named(self.of)}: has no row {next(iter(words))!r}{more}, which {self.run / FILE} kept; is it what was scored?"
            )

    def _words(self) -> dict[str, str]:
        """Id -> prompt of every row that was kept."""
        found = {}
        for line, row in rows_of(self.run / FILE):
            if isinstance(row, str) or not {"id", "prompt"} <= row.keys():
                wrong = row if isinstance(row, str) else f"has the keys {', '.join(row)}, expected id, prompt and score"
                raise DataError(f"{self.run / FILE}:{line}: {wrong}; `vlreward score` with --resume writes it anew")
            found[row["id"]] = row["prompt"]
        return found
