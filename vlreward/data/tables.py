"""Rows of files: text (jsonl, csv, tsv), parquet, WebDataset shards (tar), folders of such files, and folders that `datasets` saved."""

from __future__ import annotations

import csv
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date, time
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

from vlreward.data.media import CLIPS, Part, reason
from vlreward.errors import ConfigError

Row = dict[str, Any]
TEXT, PARQUET, SHARD = (".jsonl", ".csv", ".tsv"), ".parquet", ".tar"
FORMATS = (*TEXT, PARQUET, SHARD)
SAVED = ("dataset_dict.json", "state.json")
"""One of them lies in a folder that `datasets` has saved."""
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
WORDS = (".txt", ".caption")
MEMBER = re.compile(r"(?P<key>(?:.*/)?[^./][^./]*)\.(?P<ending>[^/]+)")
"""WebDataset's: what is before the first dot of a file's name is shared by all files of a row."""
MOST_TEXT = 4_000_000
"""Bytes of a shard's json or text; more is a broken row."""


def files_of(path: Path, split: str = "") -> list[Path]:
    """The files that a path stands for, in the order of their names: itself, those of a pattern (`shards/*.tar`), or those in a folder:
    parquet, else shards, else text. `split` leaves those that have it in their name or their folder's. A folder that `datasets` saved
    stands for itself. Raises ConfigError."""
    if "*" in path.name:
        found = sorted(path.parent.glob(path.name))
    elif path.is_dir():
        if is_saved(path):
            return [path]
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        kinds = ([file for file in inside if file.suffix in endings] for endings in ((PARQUET,), (SHARD,), TEXT))
        found = next(filter(None, kinds), [])
        if not found:
            raise ConfigError(f"{str(path)!r} has no file ending in {', '.join(FORMATS)}", "path")
    else:
        found = [path] if path.is_file() else []
    named = found or ([] if "*" in path.name else [path])
    if wrong := [file for file in named if file.suffix not in FORMATS]:
        raise ConfigError(f"is {str(wrong[0])!r}, expected a file ending in {', '.join(FORMATS)}, or a folder of them", "path")
    if not found:
        raise ConfigError(f"there is no file {str(path)!r}" + "; write * in place of {...}" * ("{" in path.name), "path")
    chosen = [file for file in found if split in file.name or split in file.parent.name]
    if not chosen:
        raise ConfigError(f"is {split!r}, but none of the {len(found)} files bears it in its name, as in {found[0].name!r}", "split")
    return chosen


def is_saved(path: Path) -> bool:
    """Whether `datasets` has saved a folder."""
    return any((path / name).is_file() for name in SAVED)


def rows_in(file: Path, label: str, split: str = "") -> Iterator[tuple[str, Row | str]]:
    """Place and row of one of `files_of`, or what is wrong with it. A file that cannot be read, or read on, is one such row."""
    if file.is_dir():
        for name, batches in saved(file, split):
            yield from ((f"{name or label}:{number}", row) for number, row in enumerate(arrow_rows(batches), start=1))
    elif file.suffix == SHARD:
        yield from _shard(file, label)
    elif file.suffix == PARQUET:
        yield from _parquet(file, label)
    else:
        yield from ((f"{label}:{line}", row) for line, row in rows_of(file))


def count_in(file: Path, split: str = "") -> int:
    """Rows of one of `files_of`, without reading what they hold; of a file that cannot be read, 1."""
    with suppress(OSError, tarfile.TarError, ValueError):  # pyarrow's error of a broken file is a ValueError
        if file.is_dir():
            return sum(batches.num_rows for _, batches in saved(file, split))
        if file.suffix == PARQUET:
            import pyarrow.parquet

            return pyarrow.parquet.read_metadata(file).num_rows
        if file.suffix == SHARD:
            with tarfile.open(file, "r:") as shard:
                return sum(1 for _ in groupby(_members(shard), key=lambda member: member[0]))
        return sum(1 for _ in rows_of(file))
    return 1


def rows_of(path: Path) -> Iterator[tuple[int, Row | str]]:
    """Line number and row of a jsonl, csv or tsv file, or what is wrong with the line."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        if path.suffix == ".jsonl":
            yield from ((line, _json_row(text)) for line, text in enumerate(file, start=1) if text.strip())
        else:
            yield from _table_rows(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def _json_row(text: str | bytes) -> Row | str:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        return f"not JSON ({error.msg} at column {error.colno})"
    except (ValueError, RecursionError):
        return "not JSON that can be read (a number or a nesting without end)"
    return row if isinstance(row, dict) else f"holds a {type(row).__name__}, expected keys and values"


def _table_rows(reader: csv.DictReader) -> Iterator[tuple[int, Row | str]]:
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num + 1, f"not a row of a table ({error})"
            continue
        if None in row or None in row.values():
            yield reader.line_num, f"has another number of columns than the header's {len(reader.fieldnames or ())}"
        else:
            yield reader.line_num, _nested(row)


def _nested(row: Mapping[str, str]) -> Row:
    """A csv row with `target.x` columns gathered under target; cells that begin like JSON lists or mappings are read as such."""
    out: Row = {}
    for key, text in row.items():
        value: Any = text
        if text[:1] in ("[", "{"):
            with suppress(ValueError, RecursionError):
                value = json.loads(text)
        if key.startswith("target."):
            if text:
                out.setdefault("target", {})[key.removeprefix("target.")] = value
        elif text or key in ("prompt", "caption", "question"):
            out[key] = value
    return out


def _parquet(file: Path, label: str) -> Iterator[tuple[str, Row | str]]:
    import pyarrow.parquet

    number = 0
    try:
        for row in arrow_rows(pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=64)):
            number += 1
            yield f"{label}:{number}", row
    except (OSError, ValueError) as error:
        yield f"{label}:{number + 1}", f"not a readable parquet file from here on ({reason(error)})"


def arrow_rows(batches: Iterable[Any]) -> Iterator[Row]:
    """Rows of arrow tables; what is null is left out, and a picture stays the `{bytes, path}` it was stored as."""
    for batch in batches:
        yield from map(_plain, batch.to_pylist())


def _plain(value: Any) -> Any:
    """Without nulls in mappings; times and decimals as texts."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, date | time | Decimal) else value


class Batches:
    """A saved dataset's arrow tables."""

    def __init__(self, dataset: Any):
        self.dataset, self.num_rows = dataset, dataset.num_rows

    def __iter__(self) -> Iterator[Any]:
        return self.dataset.with_format("arrow").iter(batch_size=64)


def saved(path: Path, split: str) -> Iterator[tuple[str, Batches]]:
    """The splits of a folder that `datasets` saved, '' where there are none; only the one named. Raises ConfigError."""
    from datasets import Dataset, load_from_disk

    loaded = load_from_disk(str(path))
    parts = {"": loaded} if isinstance(loaded, Dataset) else dict(loaded)
    if split and "" not in parts and split not in parts:
        raise ConfigError(f"is {split!r}, but the splits of {str(path)!r} are {', '.join(map(str, parts))}", "split")
    yield from ((str(name), Batches(part)) for name, part in parts.items() if not split or name in ("", split))


def _shard(file: Path, label: str) -> Iterator[tuple[str, Row | str]]:
    place = label
    try:
        with tarfile.open(file, "r:") as shard:
            for key, members in groupby(_members(shard), key=lambda member: member[0]):
                place = f"{label}/{key}"
                yield place, _gathered(shard, file, place, [(ending, member) for _, ending, member in members])
    except (tarfile.TarError, OSError) as error:
        behind = f" from {place.removeprefix(label + '/')} on" if place != label else ""
        yield f"{label}/...", f"not a readable tar file{behind} ({reason(error)})"


def _members(shard: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Key, ending and file, of files whose names have both."""
    for member in shard:
        found = MEMBER.fullmatch(member.name.removeprefix("./"))
        if member.isfile() and found:
            yield found["key"], "." + found["ending"].lower(), member


def _gathered(shard: tarfile.TarFile, file: Path, place: str, members: list[tuple[str, tarfile.TarInfo]]) -> Row | str:
    """One row of files with the same key: keys of `json`, a caption from `txt`, a label from `cls`, `jpg` and the like as its picture,
    `0.jpg`, `1.jpg` ... as its pictures, `mp4` and the like as its clip. Files with other endings are left out."""
    row: Row = {}
    shown: dict[str, list[Part]] = {"video": [], "images": []}
    for ending, member in members:
        *before, last = ending.removeprefix(".").split(".")
        plain = not before or (len(before) == 1 and before[0].isdigit())
        if plain and f".{last}" in (*PICTURES, *CLIPS):
            kind = "video" if f".{last}" in CLIPS else "images"
            shown[kind].append(Part(file, member.offset_data, member.size, f"{place}{ending}"))
        elif ending in (".json", ".cls", *WORDS):
            if member.size > MOST_TEXT:
                return f"{ending[1:]} has {member.size:,} bytes, more than the {MOST_TEXT:,} allowed"
            stream = shard.extractfile(member)
            text = stream.read().decode("utf-8", "replace") if stream else ""
            found = _json_row(text) if ending == ".json" else {"label" if ending == ".cls" else "caption": text.strip()}
            if isinstance(found, str):
                return f"json is {found}"
            row = {**found, **row} if ending == ".json" else {**row, **found}
    if any(shown.values()):
        row = {key: value for key, value in row.items() if key not in ("images", "image", "picture", "video")}
    return row | {name: parts for name, parts in shown.items() if parts}


def downloaded(name: str) -> Path:
    """The local copy of a dataset of the hub, fetched where it is not there yet. Raises ConfigError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, repo_type="dataset"))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(f"cannot fetch the dataset {name!r} ({reason(error)})", "path") from error
