"""The benchmark: a part that reads published rows as comparisons, and says which figures are its published ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from vlreward.bench.figures import Figure
from vlreward.bench.judged import Judged, pairs_of
from vlreward.bench.metrics import accuracy
from vlreward.bench.reading import Row, find_files, read_rows
from vlreward.config import locate
from vlreward.data.media import Picture, Visual
from vlreward.data.records import visuals_of
from vlreward.data.source import BadRow
from vlreward.data.tables import downloaded
from vlreward.errors import ConfigError, DataError
from vlreward.types import Comparison, Rollout, Sample

T = TypeVar("T")
TYPES = {str: "a text", list: "a list", dict: "keys and values", float: "a number", object: "a value"}


@dataclass(kw_only=True)
class Benchmark:
    """Base of all benchmarks. `path` is the folder that holds the published files (or one such file); nothing is fetched.

    Override `comparison` (one row, one comparison) or `__iter__`, and `figures`.
    """

    family: ClassVar[str] = "benchmarks"
    kind: ClassVar[str]
    files: ClassVar[tuple[str, ...]] = ()
    """Names (globs) of the published files in the folder; parquet files and saved datasets are found without."""
    headline: ClassVar[str] = "accuracy"
    """The figure that a model is published with."""
    pointwise: ClassVar[bool] = False
    """True: attempts are not compared with one another, so a critic of groups cannot judge them."""
    by_step: ClassVar[bool] = False
    """True: what is asked of an attempt is its last step, so of a critic that gives segments the last one counts, not the score."""

    path: Path
    name: str = ""
    """In the report; the kind by default."""
    pictures: str = ""
    """Folder that paths of pictures and clips start from: the benchmark's own by default."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field as described -> as the files at hand call it, where that differs."""
    split: str = ""
    """Which of several splits or files, or a folder and a split (`image_generation/test`); all by default."""
    download: bool = False
    """`path` names a dataset of the hub, which may be fetched."""

    def __post_init__(self):
        self.name = self.name or self.kind
        if self.download:
            return
        self.path = locate(self.path)
        if not self.path.exists():
            more = "; `download: true` lets it be fetched from the hub" if str(self.path).count("/") == 1 else ""
            raise ConfigError(f"there is no file or folder {str(self.path)!r}; download the benchmark and name where it lies{more}", "path")

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        if self.download:
            self.path, self.download = downloaded(str(self.path)), False
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def place(self) -> str:
        """What to name where nothing can be read."""
        return str(self.path)

    def rows(self) -> Iterator[tuple[str, Row | str]]:
        """Place and row of the published files, fields under the names described."""
        folder = self.folder
        for place, row in read_rows(self.path if self.path.is_file() else folder, self.files, self.split):
            yield place, row if isinstance(row, str) else self._renamed(row)

    def file(self) -> Path:
        """The one published file, where it is no table."""
        return self.path if self.path.is_file() else find_files(self.folder, self.files)[0]

    def __iter__(self) -> Iterator[Comparison | BadRow]:
        """Comparisons in the order of the rows; a row that is none comes as a BadRow. Their ids differ."""
        seen: set[str] = set()
        for place, row in self.rows():
            try:
                found = self.comparison(row, place) if not isinstance(row, str) else BadRow(place, row)
            except DataError as error:
                found = BadRow(place, str(error))
            if found is not None:
                yield unlike(found, seen)

    def comparison(self, row: Row, place: str) -> Comparison | None:
        """One row; None leaves it out on purpose. Raises DataError for a row without the described fields."""
        raise NotImplementedError(f"{type(self).__name__} must define comparison")

    def figures(self, judged: Sequence[Judged]) -> dict[str, Figure]:
        """Name -> figure, the headline first."""
        pairs = pairs_of(judged)
        return {"accuracy": accuracy(pairs), "macro accuracy": accuracy(pairs, macro=True)}

    def visual(self, value: Any, name: str) -> Visual:
        """A picture or clip as rows hold it: a path, bytes, or the `{bytes, path}` of a saved dataset. Raises DataError."""
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            return Picture(value)
        folder = Path(self.pictures) if self.pictures else self.folder
        if isinstance(value, str) and value.endswith(".npy"):
            return Picture(_stored_array(folder / value))
        found = visuals_of(value, folder, name)
        if isinstance(found, str):
            raise DataError(found)
        return found[0]

    def _renamed(self, row: Row) -> Row:
        return {**row, **{ours: row[theirs] for ours, theirs in self.columns.items() if theirs in row}}


def get(row: Row, name: str, kind: type[T]) -> T:
    """A field of a row. Raises DataError, which says what is there instead."""
    value = row.get(name)
    if kind is float and isinstance(value, str | int):
        try:
            return float(value)  # type: ignore[return-value]
        except ValueError:
            value = row.get(name)
    if value is None or not isinstance(value, kind) or value in ("", []):
        there = f"the row has {', '.join(map(str, row))}" if value is None else f"it is {str(value)[:60]!r}"
        raise DataError(f"{name} is missing, expected {TYPES.get(kind, kind.__name__)}; {there}")
    return value


def written(name: str, prompt: str, texts: Sequence[str], visuals: Sequence[Visual] = (), target: Row | None = None) -> tuple[Rollout, ...]:
    """Answers to one prompt about pictures."""
    sample = Sample(id=name, prompt=prompt, visuals=tuple(visuals), target=target or {})
    return tuple(Rollout(sample=sample, text=text) for text in texts)


def made(name: str, prompt: str, visuals: Sequence[Visual], source: Visual | None = None, target: Row | None = None) -> tuple[Rollout, ...]:
    """Pictures or clips made for one prompt, from a source picture where they are edits of it."""
    sample = Sample(id=name, prompt=prompt, visuals=() if source is None else (source,), target=target or {})
    return tuple(Rollout(sample=sample, made=visual) for visual in visuals)


def unlike(found: Comparison | BadRow, seen: set[str]) -> Comparison | BadRow:
    """The same with an id that none in `seen` has (published ids repeat), which is added to them."""
    name, count = found.id, 1
    while name in seen:
        count += 1
        name = f"{found.id}#{count}"
    seen.add(name)
    return found if name == found.id else replace(found, id=name)


def _stored_array(path: Path) -> np.ndarray:
    """The pixels [H,W,3] of a .npy file, which are stored in the order blue, green, red (EqBen)."""
    try:
        return np.ascontiguousarray(np.load(path, allow_pickle=False)[:, :, [2, 1, 0]])
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such picture") from error
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: not a readable picture ({error})") from error
