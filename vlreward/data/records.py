"""Samples from files of rows."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from vlreward.config import locate
from vlreward.data.media import CLIPS, Clip, Part, Picture, Visual
from vlreward.data.source import BadRow, Source
from vlreward.data.tables import Row, count_in, downloaded, files_of, rows_in
from vlreward.errors import ConfigError
from vlreward.registry import register
from vlreward.types import Sample

NAMES = {
    "id": ("id",),
    "prompt": ("prompt", "caption", "question"),
    "visuals": ("images", "image", "picture", "video"),
    "response": ("response",),
    "target": ("target",),
}
"""Field -> column names it is found under, the first that is there."""
CAPTION_LIMIT = 20_000
"""Characters; a longer prompt is a broken row, not a caption."""


@register("file")
@dataclass(kw_only=True)
class FileSource(Source):
    """Rows of a file: `id?`, `prompt` (or `caption`, `question`), `image` (or `images`, `picture`, `video`), `response?`, `target?` (a
    mapping; in csv, columns `target.<name>`).

    `path` is a jsonl, csv, tsv or parquet file, a WebDataset shard (tar), a pattern of such (`shards/*.tar`), a folder of them, or one
    that `datasets` saved. Pictures are paths, or lie in the rows themselves (bytes, `{bytes, path}`); those of shards are read when they
    are needed, those of parquet files stay in memory, encoded, for as long as their row. Of a shard's files `json` gives a row its keys,
    `txt` its caption, `cls` a label, `jpg` (`png`, `webp` ...) its picture, `0.jpg`, `1.jpg` ... several, `mp4` its clip.

    A `response` is what is scored against the picture, in place of the prompt. Every other column goes into the target under its name,
    unless it holds bytes.
    """

    maker: ClassVar[str] = ""
    """What makes such a file, for where there is none."""
    attempts: ClassVar[tuple[str, ...]] = ()
    """Other columns that may hold pictures, which stand in the target."""
    path: Path
    pictures: str = ""
    """Folder that picture paths start from: that of the files by default; `package:skimage.data` is an installed package's."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field (id, prompt, visuals, response, target) -> the file's name for it, where it has another."""
    split: str = ""
    """Of a folder: which of its saved splits, or the files that have it in their name; all by default."""
    download: bool = False
    """`path` names a dataset of the hub, which may be fetched; what it holds is read as a folder."""

    def __post_init__(self):
        for name in self.columns:
            if name not in NAMES:
                raise ConfigError(f"unknown field {name!r}. Known: {', '.join(NAMES)}.", f"columns.{name}")
        if self.download:
            return
        self.path = locate(self.path)
        try:
            self._files = files_of(self.path, self.split)
        except ConfigError as error:
            raise ConfigError(f"{error.problem}{self.maker}", error.key) from error
        pictures_folder(self.pictures, self.root)

    @property
    def files(self) -> list[Path]:
        """What is read, in order; fetched first where that is allowed."""
        if self.download:
            self.path, self.download = downloaded(str(self.path)), False
            self._files = files_of(self.path, self.split)
        return self._files

    def __iter__(self) -> Iterator[Sample | BadRow]:
        seen: set[str] = set()
        folder = self.folder
        for place, row in self._rows():
            result = row if isinstance(row, str) else self._sample(row, place, folder)
            if isinstance(result, Sample) and result.id in seen:
                result = f"the id {result.id!r} was given to an earlier row"
            if isinstance(result, Sample):
                seen.add(result.id)
                yield result
            else:
                yield BadRow(place, result)

    def length(self) -> int:
        return sum(count_in(file, self.split) for file in self.files)

    @property
    def root(self) -> Path:
        """The folder that the files lie in."""
        files = self.files
        return self.path if self.path.is_dir() else files[0].parent

    @property
    def folder(self) -> Path:
        """Where paths of pictures start from."""
        return pictures_folder(self.pictures, self.root)

    def _rows(self) -> Iterator[tuple[str, Row | str]]:
        """Place and row, or what is wrong with it."""
        root = self.root
        for file in self.files:
            label = root.name if file == root else file.relative_to(root).as_posix()
            yield from rows_in(file, label, self.split)

    def _sample(self, row: Row, place: str, folder: Path) -> Sample | str:
        """The row as a sample, or what is wrong with it."""
        taken: dict[str, str] = {}
        for name, usual in NAMES.items():
            options = (self.columns[name],) if name in self.columns else usual
            present = [option for option in options if row.get(option) is not None]
            if present:
                taken[name] = present[0]
        prompt = row.get(taken.get("prompt", ""))
        if not isinstance(prompt, str):
            there = f"; the row has {', '.join(row)}, and `columns` says which is which" if row and prompt is None else ""
            return f"{taken.get('prompt', 'prompt')} is {'missing' if prompt is None else repr(prompt)}, expected a text{there}"
        if not prompt.strip():
            return f"{taken['prompt']} is empty"
        if len(prompt) > CAPTION_LIMIT:
            return f"{taken['prompt']} has {len(prompt)} characters, more than the {CAPTION_LIMIT} allowed"
        visuals = visuals_of(row.get(taken.get("visuals", ""), []), folder, taken.get("visuals", ""))
        if isinstance(visuals, str):
            return visuals
        target = row.get(taken.get("target", ""), {})
        if not isinstance(target, dict):
            return f"{taken['target']} is {target!r}, expected keys and values"
        rest = {key: value for key, value in row.items() if key not in taken.values() and (key in self.attempts or not packed(value))}
        if "response" in taken:
            rest["response"] = row[taken["response"]]
            if not isinstance(rest["response"], str):
                return f"{taken['response']} is {rest['response']!r}, expected a text"
        identity = row.get(taken.get("id", ""))
        return Sample(id=place if identity is None else str(identity), prompt=prompt, visuals=tuple(visuals), target=rest | target)


def visuals_of(given: Any, folder: Path, name: str) -> list[Visual] | str:
    """The pictures and clips that a row's column holds or names (one, or a list), paths from a folder; or what is wrong with it."""
    visuals: list[Visual] = []
    for one in given if isinstance(given, list) else [given]:
        inside = one.get("bytes") or one.get("path") if isinstance(one, Mapping) else one
        if isinstance(inside, Part):
            visuals.append(Clip(inside) if inside.suffix in CLIPS else Picture(inside))
            continue
        if isinstance(inside, bytes) and inside:
            visuals.append(Picture(inside))
            continue
        if not isinstance(inside, str) or not inside:
            return f"{name} is {one!r}, expected a path"
        if "://" in inside:
            return f"{name} is an address ({inside[:60]}); nothing is fetched, download it first"
        full = folder / inside
        visuals.append(Clip(full) if full.suffix.lower() in CLIPS else Picture(full))
    return visuals


def packed(value: Any) -> bool:
    """Whether a column's value is a file's bytes, or holds some."""
    if isinstance(value, Mapping):
        return any(map(packed, value.values()))
    return any(map(packed, value)) if isinstance(value, list) else isinstance(value, bytes | Part)


def pictures_folder(pictures: str, root: Path) -> Path:
    """Where relative paths of pictures start: `package:NAME` is an installed package's folder, nothing is `root`. Raises ConfigError."""
    if not pictures.startswith("package:"):
        return Path(pictures) if pictures else root
    name = pictures.removeprefix("package:")
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"is {pictures!r}, but no package {name!r} is installed", "pictures")
    return Path(next(iter(spec.submodule_search_locations)))
