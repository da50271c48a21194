"""Rows of a benchmark's own files: json, jsonl, csv, parquet, or a folder that `datasets` saved; nothing is decoded yet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlreward.data.tables import is_saved, rows_of, saved
from vlreward.errors import ConfigError, DataError

Row = Mapping[str, Any]
SHARD = re.compile(r"-\d+-of-\d+$")
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


def read_rows(path: Path, files: Sequence[str], split: str) -> Iterator[tuple[str, Row | str]]:
    """Place and row, or what is wrong with it. `path` is a file, or a folder that holds one of `files`, parquet files, or a saved dataset.

    `split` names a split, or a folder and a split (`image_generation/test`); without it all are read. Rows of parquet files and saved
    datasets get the key `split`: the folder's name, else the split's. A json file may hold a list of rows, lists by split, or a mapping
    of ids to rows, where the id becomes `key`. Raises ConfigError.
    """
    if not path.exists():
        raise ConfigError(f"there is no file or folder {str(path)!r}; download the benchmark and name where it lies", "path")
    if path.is_file():
        yield from _file(path, path.parent)
    elif is_saved(path):
        for name, batches in saved(path, split):
            yield from _batches(name or path.name, name or path.name, batches)
    else:
        for file in find_files(path, files, split):
            yield from _file(file, path)


def find_files(path: Path, files: Sequence[str], split: str = "") -> list[Path]:
    """The files of a folder that a benchmark is published as, else its parquet files. Raises ConfigError where there are none."""
    named = sorted({file for pattern in files for file in path.glob(pattern) if file.is_file()})
    found = named or sorted(path.rglob("*.parquet"))
    if not found:
        wanted = " or ".join(dict.fromkeys([*files, "*.parquet"]))
        raise ConfigError(f"{str(path)!r} has no {wanted}; name the folder (or the file) of this benchmark", "path")
    names = {file: {*file.relative_to(path).parts[:-1], SHARD.sub("", file.stem)} for file in found}
    chosen = [file for file in found if not split or set(split.split("/")) <= names[file]]
    if not chosen:
        there = ", ".join(sorted(set().union(*names.values())))
        raise ConfigError(f"is {split!r}, but no file in {str(path)!r} bears that name; there are {there}", "split")
    return chosen


def load_json(path: Path) -> Any:
    """A whole json file. Raises DataError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _file(path: Path, root: Path) -> Iterator[tuple[str, Row | str]]:
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"is {str(path)!r}, expected a folder or a file ending in {', '.join(SUFFIXES)}", "path")
    if path.suffix == ".parquet":
        import pyarrow.parquet

        try:
            folders = [part for part in path.relative_to(root).parts[:-1] if part != "data"]
            label = folders[-1] if folders else SHARD.sub("", path.stem)
            yield from _batches(label, path.stem, pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=64))
        except pyarrow.ArrowException as error:
            raise DataError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from error
    elif path.suffix == ".json":
        tree = load_json(path)
        if isinstance(tree, Mapping) and all(isinstance(rows, list) for rows in tree.values()):
            tree = [{"split": name, **row} if isinstance(row, Mapping) else row for name, rows in tree.items() for row in rows]
        elif isinstance(tree, Mapping):
            tree = [{"key": key, **row} if isinstance(row, Mapping) else row for key, row in tree.items()]
        if not isinstance(tree, list):
            raise DataError(f"{path}: holds a {type(tree).__name__}, expected rows")
        for place, row in enumerate(tree):
            problem = f"holds a {type(row).__name__}, expected keys and values"
            yield f"{path.name}[{place}]", row if isinstance(row, Mapping) else problem
    else:
        for line, row in rows_of(path):
            yield f"{path.name}:{line}", row


def _batches(split: str, name: str, batches: Any) -> Iterator[tuple[str, Row]]:
    """Rows of arrow tables; a picture stays the `{bytes, path}` it was stored as."""
    place = 0
    for batch in batches:
        for row in batch.to_pylist():
            yield f"{name}[{place}]", {"split": split, **row}
            place += 1
