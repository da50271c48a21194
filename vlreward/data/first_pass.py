"""Samples chosen or labelled by how an untrained policy answered them: what `vlreward eval CONFIG eval.answers=8` found."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlreward.config import Fraction, Positive, locate
from vlreward.data.source import BadRow, Source
from vlreward.errors import ConfigError, DataError
from vlreward.registry import register
from vlreward.types import Sample


@dataclass(kw_only=True)
class FirstPass(Source):
    """What sources share that read the rates of a first pass: each good sample of `of` is looked up by its id, and kept or not."""

    of: Source
    rates: Path
    """solve_rates.jsonl of the first pass"""

    def __post_init__(self):
        self.rates = locate(self.rates)
        if not self.rates.is_file():
            raise ConfigError(f"there is no file {str(self.rates)!r}; `vlreward eval CONFIG eval.answers=8` writes it", "rates")

    def __iter__(self) -> Iterator[Sample | BadRow]:
        known = read_rates(self.rates)
        for row in self.of:
            if isinstance(row, BadRow):
                yield row
            elif row.id not in known:
                yield BadRow(row.id, f"has no row in {self.rates}; answer these samples with `vlreward eval CONFIG eval.answers=8` again")
            else:
                added = self.add(known[row.id])
                if added is not None:
                    yield replace(row, target={**row.target, **added})

    def add(self, rate: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What a sample's row adds to its target; None leaves the sample out."""
        raise NotImplementedError(f"{type(self).__name__} must define add")


@register("by_difficulty")
@dataclass(kw_only=True)
class ByDifficulty(FirstPass):
    """Samples of `of` that a first pass answered rightly in a share of at least `low` and at most `high`; it becomes `target.solve_rate`.

    What is always or never right teaches a group nothing (DAPO, arXiv 2503.14476). A sample that no answer was judged of is left out.
    """

    low: Fraction
    high: Fraction

    def __post_init__(self):
        super().__post_init__()
        if self.low > self.high:
            raise ConfigError(f"is {self.low:g}, which is more than high = {self.high:g}", "low")

    def add(self, rate: Mapping[str, Any]) -> Mapping[str, Any] | None:
        solved = rate["rate"]
        return {"solve_rate": solved} if solved is not None and self.low <= solved <= self.high else None


@register("by_answer_length")
@dataclass(kw_only=True)
class ByAnswerLength(FirstPass):
    """Samples of `of` with `target.thinking`: `fast` where a first pass answered in fewer than `fast_below` tokens on average, `slow` where
    it took more than `slow_above`. Those in between are left out.

    Source: DualMindVLM, arXiv 2511.16670 (100 and 200 tokens over 8 answers; it also leaves out what is always or never right, which
    `by_difficulty` does).
    """

    fast_below: Positive
    slow_above: Positive

    def __post_init__(self):
        super().__post_init__()
        if self.fast_below > self.slow_above:
            raise ConfigError(f"is {self.fast_below:g}, which is more than slow_above = {self.slow_above:g}", "fast_below")

    def add(self, rate: Mapping[str, Any]) -> Mapping[str, Any] | None:
        length = rate["tokens"]
        return {"thinking": "fast"} if length < self.fast_below else {"thinking": "slow"} if length > self.slow_above else None


def read_rates(path: Path) -> dict[str, Mapping[str, Any]]:
    """Sample id -> `{id, rate, tokens, ...}`, a row of solve_rates.jsonl. Raises DataError."""
    known: dict[str, Mapping[str, Any]] = {}
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{line}: not JSON ({error.msg})") from error
        numbers = [row.get("rate"), row.get("tokens")] if isinstance(row, dict) else ["none"]
        if not all(number is None or isinstance(number, int | float) for number in numbers) or numbers[-1] is None or "id" not in row:
            raise DataError(f"{path}:{line}: is no row of a first pass, expected keys id, rate and tokens")
        if row["id"] in known:
            raise DataError(f"{path}:{line}: a second row for {row['id']!r}; ids must differ between the sources of one first pass")
        known[row["id"]] = row
    return known
