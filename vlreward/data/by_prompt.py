"""Several pictures of one prompt, from a file with a row for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from vlreward.config import Count
from vlreward.data.records import FileSource
from vlreward.data.source import BadRow
from vlreward.registry import register
from vlreward.types import Sample


@register("by_prompt")
@dataclass(kw_only=True)
class ByPrompt(FileSource):
    """The rows of a file (as `file` reads them) that share a prompt as one sample, for `group.pictures: given`.

    Its visuals are the rows' pictures, in order. What all rows say alike stands in its target, all that each one says (a score, regions)
    in `target.pictures`. Reads the `rollouts.jsonl` of a run too, where a picture's score is `total`:
    `vlreward eval CONFIG eval.pictures=16` makes such a file. Rows without a picture are left out.
    """

    maker: ClassVar[str] = "; `vlreward eval CONFIG eval.pictures=16` draws and judges pictures, and its rollouts.jsonl is one"
    at_least: Count = 2
    """Prompts with fewer pictures are left out."""

    def length(self) -> None:
        """Rows are put together first."""

    def __iter__(self) -> Iterator[Sample | BadRow]:
        found: dict[str, list[Sample]] = {}
        folder = self.folder
        for place, row in self._rows():
            result = row if isinstance(row, str) else self._sample(row, place, folder)
            if isinstance(result, str):
                yield BadRow(place, result)
            elif result.visuals:
                found.setdefault(result.prompt, []).append(result)
        for rows in found.values():
            if len(rows) >= self.at_least:
                yield joined(rows)


def joined(rows: list[Sample]) -> Sample:
    """Samples with one prompt as one."""
    first = rows[0]
    alike = {key: value for key, value in first.target.items() if all(row.target.get(key) == value for row in rows)}
    pictures = [dict(row.target) for row in rows for _ in row.visuals]
    return Sample(
        id=first.id, prompt=first.prompt, visuals=tuple(v for row in rows for v in row.visuals), target=alike | {"pictures": pictures}
    )
