"""Samples from jsonl and csv files."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from vlreward.config import locate
from vlreward.data.media import Clip, Picture, Visual
from vlreward.data.source import BadRow, Source
from vlreward.errors import ConfigError
from vlreward.registry import register
from vlreward.types import Sample

FORMATS = (".jsonl", ".csv", ".tsv")
NAMES = {
    "id": ("id",),
    "prompt": ("prompt", "caption", "question"),
    "visuals": ("images", "image", "picture", "video"),
    "response": ("response",),
    "target": ("target",),
}
"""Field -> column names it is found under, the first that is there."""
CLIPS = (".mp4", ".webm", ".avi", ".mov", ".mkv")
CAPTION_LIMIT = 20_000
"""Characters; a longer prompt is a broken row, not a caption."""


@register("file")
@dataclass(kw_only=True)
class FileSource(Source):
    """Rows of a jsonl, csv or tsv file: `id?`, `prompt` (or `caption`, `question`), `image` (or `images`, `picture`, `video`), `response?`,
    `target?` (a mapping; in csv, columns `target.<name>`).

    A `response` is what is scored against the picture, in place of the prompt. Every other column goes into the target under its name.
    """

    maker: ClassVar[str] = ""
    """What makes such a file, for where there is none."""
    path: Path
    pictures: str = ""
    """Folder that picture paths start from: the file's own by default; `package:skimage.data` is an installed package's."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field (id, prompt, visuals, response, target) -> the file's name for it, where it has another."""

    def __post_init__(self):
        if self.path.suffix not in FORMATS:
            raise ConfigError(f"is {str(self.path)!r}, expected a file ending in {', '.join(FORMATS)}", "path")
        self.path = locate(self.path)
        if not self.path.is_file():
            raise ConfigError(f"there is no file {str(self.path)!r}{self.maker}", "path")
        for name in self.columns:
            if name not in NAMES:
                raise ConfigError(f"unknown field {name!r}. Known: {', '.join(NAMES)}.", f"columns.{name}")
        self._folder = pictures_folder(self.pictures, self.path)

    def __iter__(self) -> Iterator[Sample | BadRow]:
        seen: set[str] = set()
        for line, row in self._rows():
            place = f"{self.path.name}:{line}"
            result = row if isinstance(row, str) else self._sample(row, place)
            if isinstance(result, Sample) and result.id in seen:
                result = f"the id {result.id!r} was given to an earlier row"
            if isinstance(result, Sample):
                seen.add(result.id)
                yield result
            else:
                yield BadRow(place, result)

    def _rows(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        return rows_of(self.path)

    def _sample(self, row: dict[str, Any], place: str) -> Sample | str:
        """The row as a sample, or what is wrong with it."""
        taken: dict[str, str] = {}
        for name, usual in NAMES.items():
            options = (self.columns[name],) if name in self.columns else usual
            present = [option for option in options if row.get(option) is not None]
            if present:
                taken[name] = present[0]
        prompt = row.get(taken.get("prompt", ""))
        if not isinstance(prompt, str):
            return f"{taken.get('prompt', 'prompt')} is {'missing' if prompt is None else repr(prompt)}, expected a text"
        if not prompt.strip():
            return f"{taken['prompt']} is empty"
        if len(prompt) > CAPTION_LIMIT:
            return f"{taken['prompt']} has {len(prompt)} characters, more than the {CAPTION_LIMIT} allowed"
        visuals = visuals_of(row.get(taken.get("visuals", ""), []), self._folder, taken.get("visuals", ""))
        if isinstance(visuals, str):
            return visuals
        target = row.get(taken.get("target", ""), {})
        if not isinstance(target, dict):
            return f"{taken['target']} is {target!r}, expected keys and values"
        rest = {key: value for key, value in row.items() if key not in taken.values()}
        if "response" in taken:
            rest["response"] = row[taken["response"]]
            if not isinstance(rest["response"], str):
                return f"{taken['response']} is {rest['response']!r}, expected a text"
        identity = row.get(taken.get("id", ""))
        return Sample(id=place if identity is None else str(identity), prompt=prompt, visuals=tuple(visuals), target=rest | target)


def rows_of(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Line number and row of a jsonl, csv or tsv file, or what is wrong with the line."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        if path.suffix == ".jsonl":
            yield from ((line, _json_row(text)) for line, text in enumerate(file, start=1) if text.strip())
        else:
            yield from _table_rows(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def _json_row(text: str) -> dict[str, Any] | str:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        return f"not JSON ({error.msg} at column {error.colno})"
    except (ValueError, RecursionError):
        return "not JSON that can be read (a number or a nesting without end)"
    return row if isinstance(row, dict) else f"holds a {type(row).__name__}, expected keys and values"


def _table_rows(reader: csv.DictReader) -> Iterator[tuple[int, dict[str, Any] | str]]:
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


def visuals_of(paths: Any, folder: Path, name: str) -> list[Visual] | str:
    """The pictures and clips that a row's column names (one path, or a list), from a folder; or what is wrong with it."""
    visuals: list[Visual] = []
    for path in paths if isinstance(paths, list) else [paths]:
        if not isinstance(path, str) or not path:
            return f"{name} is {path!r}, expected a path"
        if "://" in path:
            return f"{name} is an address ({path[:60]}); nothing is fetched, download it first"
        full = folder / path
        visuals.append(Clip(full) if full.suffix.lower() in CLIPS else Picture(full))
    return visuals


def pictures_folder(pictures: str, path: Path) -> Path:
    if not pictures.startswith("package:"):
        return Path(pictures) if pictures else path.parent
    name = pictures.removeprefix("package:")
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"is {pictures!r}, but no package {name!r} is installed", "pictures")
    return Path(next(iter(spec.submodule_search_locations)))


def _nested(row: Mapping[str, str]) -> dict[str, Any]:
    """A csv row with `target.x` columns gathered under target; cells that begin like JSON lists or mappings are read as such."""
    out: dict[str, Any] = {}
    for key, text in row.items():
        value: Any = text
        if text[:1] in ("[", "{"):
            with contextlib.suppress(ValueError, RecursionError):
                value = json.loads(text)
        if key.startswith("target."):
            if text:
                out.setdefault("target", {})[key.removeprefix("target.")] = value
        elif text or key in NAMES["prompt"]:
            out[key] = value
    return out
