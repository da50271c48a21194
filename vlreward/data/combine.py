"""Sources made of sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from vlreward.data.source import BadRow, Source
from vlreward.registry import register
from vlreward.types import Sample


@register("chain")
@dataclass(kw_only=True)
class Chain(Source):
    """One source after the other. A row whose id an earlier one has gets its source's number before it: `2/rows.jsonl:1`."""

    of: tuple[Source, ...]

    def __iter__(self) -> Iterator[Sample | BadRow]:
        seen: set[str] = set()
        for number, source in enumerate(self.of, start=1):
            for row in source:
                own = replace(row, id=f"{number}/{row.id}") if row.id in seen else row
                seen.add(own.id)
                yield own

    def length(self) -> int | None:
        each = [source.length() for source in self.of]
        return None if None in each else sum(filter(None, each))


@register("labelled")
@dataclass(kw_only=True)
class Labelled(Source):
    """Every sample with these values in its target: a `task` by which `route` chooses its reward, a `difficulty`, a `label`.

    A value of the sample's own under the same name gives way.
    """

    of: Source
    target: Mapping[str, Any]

    def __iter__(self) -> Iterator[Sample | BadRow]:
        for row in self.of:
            yield row if isinstance(row, BadRow) else replace(row, target={**row.target, **self.target})

    def length(self) -> int | None:
        return self.of.length()


@register("mismatched")
@dataclass(kw_only=True)
class Mismatched(Source):
    """Every sample twice: as it is, and with the words and target of the next sample that has other words.

    The two share `target.pair` and differ in `target.matched` (true, false); `vlreward score` then reports how often the matched one
    scores higher. A reward that is no better than chance wins half of the time.
    """

    of: Source

    def __iter__(self) -> Iterator[Sample | BadRow]:
        rows = list(self.of)
        yield from (row for row in rows if isinstance(row, BadRow))
        samples = [row for row in rows if isinstance(row, Sample)]
        for i, sample in enumerate(samples):
            yield _pair(sample, sample, sample.id, True)
            others = (samples[(i + k) % len(samples)] for k in range(1, len(samples)))
            other = next(
                (o for o in others if (o.prompt, o.target) != (sample.prompt, sample.target) and set(o.target) == set(sample.target)), None
            )
            if other is not None:
                yield _pair(sample, other, f"{sample.id}/mismatched", False)


def _pair(picture: Sample, words: Sample, name: str, matched: bool) -> Sample:
    target = {**words.target, "pair": picture.id, "matched": matched}
    return Sample(id=name, prompt=words.prompt, visuals=picture.visuals, target=target)
