"""Rows of parquet files, WebDataset shards, saved datasets, and folders and patterns of files."""

from __future__ import annotations

import io
import json
import tarfile
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlreward.data.by_prompt import ByPrompt
from vlreward.data.combine import Chain, Labelled, Mismatched
from vlreward.data.comparisons import FileComparisons
from vlreward.data.media import Clip, Picture
from vlreward.data.records import FileSource
from vlreward.data.source import BadRow
from vlreward.errors import ConfigError, DataError
from vlreward.types import Sample

COLORS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}


def png(color: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), color).save(stream, "PNG")
    return stream.getvalue()


def shard(path: Path, files: dict[str, bytes | str]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as out:
        for name, data in files.items():
            data = data.encode() if isinstance(data, str) else data
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    return path


def parquet(path: Path, rows: list[dict]) -> Path:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)
    return path


def colors(sample: Sample) -> list[tuple]:
    return [picture.pil.getpixel((0, 0)) for picture in sample.visuals if isinstance(picture, Picture)]


def wanted(*names: str) -> list[tuple]:
    return [COLORS[name] for name in names]


def test_a_shards_files_with_the_same_key_are_one_row(tmp_path):
    made = shard(tmp_path / "00.tar", {
        "./a/0001.png": png("red"), "./a/0001.json": json.dumps({"id": "x", "caption": "old", "image": "gone.png", "width": 4}),
        "./a/0001.txt": "a red thing\n", "./a/0001.mask.png": png("blue"), "./a/0001.cls": "7",
        "0002.txt": "two", "0002.0.jpg": png("red"), "0002.1.jpg": png("blue"), ".hidden": "no", "no-ending": "no",
    })  # fmt: skip
    source = FileSource(path=made)
    first, second = source
    assert isinstance(first, Sample)
    assert (first.id, first.prompt, first.target) == ("x", "a red thing", {"width": 4, "label": "7"})
    assert colors(first) == wanted("red")
    assert isinstance(second, Sample)
    assert (second.id, second.prompt) == ("00.tar/0002", "two")
    assert colors(second) == wanted("red", "blue")
    assert second.visuals[0].origin == "00.tar/0002.0.jpg"
    assert source.length() == 2


def test_a_shards_picture_is_read_when_it_is_needed_and_its_lack_then_told(tmp_path):
    made = shard(tmp_path / "00.tar", {"a.txt": "red", "a.png": png("red")})
    [sample] = FileSource(path=made)
    assert isinstance(sample, Sample)
    assert not sample.visuals[0].missing
    made.write_bytes(b"")
    with pytest.raises(DataError, match=r"00.tar/a.png: .*00.tar ends \d+ bytes too early"):
        colors(sample)


def test_a_clip_of_a_shard_is_a_clip(tmp_path):
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 8, (32, 32))
    for level in (0, 60, 120, 180, 240):
        writer.write(np.full((32, 32, 3), level, dtype=np.uint8))
    writer.release()
    data = (tmp_path / "v.mp4").read_bytes()
    [sample] = FileSource(path=shard(tmp_path / "00.tar", {"a.mp4": data, "a.json": '{"caption": "it gets light", "video": "gone.mp4"}'}))
    assert isinstance(sample, Sample)
    [clip] = sample.visuals
    assert isinstance(clip, Clip)
    assert clip.tensor.shape == (5, 3, 32, 32)
    assert clip.tensor[4].mean() > clip.tensor[0].mean() + 0.7
    assert (clip.fps, clip.origin) == (8.0, "00.tar/a.mp4")


def test_a_broken_shard_costs_its_own_rows_alone(tmp_path):
    whole = shard(tmp_path / "s" / "00.tar", {f"{k}.txt": f"number {k}" for k in range(3)})
    data = whole.read_bytes()
    (tmp_path / "s" / "01.tar").write_bytes(data[:1800])
    (tmp_path / "s" / "02.tar").write_bytes(b"no tar file at all" * 100)
    shard(tmp_path / "s" / "03.tar", {"a.json": "[1]", "b.json": "{", "c.txt": "last", "d.txt": "x" * 5_000_000})
    source = FileSource(path=tmp_path / "s")
    rows = list(source)
    bad = {row.id: row.error for row in rows if isinstance(row, BadRow)}
    assert [row.prompt for row in rows if isinstance(row, Sample)] == ["number 0", "number 1", "number 2", "number 0", "last"]
    assert bad.keys() == {"01.tar/...", "02.tar/...", "03.tar/a", "03.tar/b", "03.tar/d"}
    assert "not a readable tar file from 1 on" in bad["01.tar/..."]
    assert bad["03.tar/a"] == "json is holds a list, expected keys and values"
    assert "more than the 4,000,000 allowed" in bad["03.tar/d"]
    assert source.length() > 0


def test_parquet_rows_hold_paths_bytes_and_stored_pictures(tmp_path):
    (tmp_path / "green.png").write_bytes(png("green"))
    rows = [
        {"prompt": "red", "image": {"bytes": png("red"), "path": "lost.png"}, "score": 1, "when": datetime(2026, 1, 2),
         "target": {"text": "x", "n": None}},
        {"prompt": "green", "image": {"bytes": None, "path": "green.png"}, "score": None, "when": None, "target": {"text": None, "n": 3}},
        {"prompt": None, "image": None, "score": 2, "when": None, "target": None},
    ]  # fmt: skip
    source = FileSource(path=parquet(tmp_path / "rows.parquet", rows))
    first, second, third = source
    assert isinstance(first, Sample)
    assert (first.id, first.target) == ("rows.parquet:1", {"score": 1, "when": "2026-01-02 00:00:00", "text": "x"})
    assert colors(first) == wanted("red")
    assert isinstance(second, Sample)
    assert (colors(second), second.target) == (wanted("green"), {"n": 3})
    assert third == BadRow("rows.parquet:3", "prompt is missing, expected a text; the row has score, and `columns` says which is which")
    assert source.length() == 3
    [bare] = FileSource(path=parquet(tmp_path / "bare.parquet", [{"caption": "blue", "jpg": png("blue"), "more": png("red")}]),
                        columns={"visuals": "jpg"})  # fmt: skip
    assert isinstance(bare, Sample)
    assert (colors(bare), bare.target) == (wanted("blue"), {})


def test_a_parquet_file_that_breaks_off_is_one_bad_row(tmp_path):
    path = parquet(tmp_path / "p" / "0.parquet", [{"prompt": str(k)} for k in range(5)])
    (tmp_path / "p" / "1.parquet").write_bytes(path.read_bytes()[:-40])
    rows = list(FileSource(path=tmp_path / "p"))
    assert [type(row) for row in rows] == [Sample] * 5 + [BadRow]
    assert isinstance(rows[5], BadRow)
    assert rows[5].id == "1.parquet:1"
    assert rows[5].error.startswith("not a readable parquet file from here on (")


def test_a_saved_dataset_is_read_by_split(tmp_path):
    from datasets import Dataset, DatasetDict, Features, Value
    from datasets import Image as Stored

    features = Features({"question": Value("string"), "image": Stored()})
    columns = {name: {"question": [f"a {name}"], "image": [{"bytes": png(name), "path": None}]} for name in ("red", "blue")}
    parts = {name: Dataset.from_dict(rows, features=features) for name, rows in columns.items()}
    DatasetDict(parts).save_to_disk(str(tmp_path / "both"))
    source = FileSource(path=tmp_path / "both")
    assert [(row.id, row.prompt, colors(row)) for row in source if isinstance(row, Sample)] == [
        ("red:1", "a red", wanted("red")),
        ("blue:1", "a blue", wanted("blue")),
    ]
    assert source.length() == 2
    blue = FileSource(path=tmp_path / "both", split="blue")
    assert [row.prompt for row in blue if isinstance(row, Sample)] == ["a blue"]
    assert blue.length() == 1
    with pytest.raises(ConfigError, match=r"the splits of .* are red, blue"):
        list(FileSource(path=tmp_path / "both", split="green"))
    parts["red"].save_to_disk(str(tmp_path / "one"))
    assert [row.id for row in FileSource(path=tmp_path / "one")] == ["one:1"]


def test_patterns_and_folders_stand_for_their_files_in_order(tmp_path):
    for name in ("b", "a"):
        shard(tmp_path / f"{name}.tar", {"0.txt": f"of {name}"})
    (tmp_path / "train").mkdir()
    for name in ("train", "test"):
        parquet(tmp_path / "data" / f"{name}-0.parquet", [{"prompt": name}])
    assert [row.prompt for row in FileSource(path=tmp_path / "*.tar") if isinstance(row, Sample)] == ["of a", "of b"]
    assert [row.id for row in FileSource(path=tmp_path)] == ["data/test-0.parquet:1", "data/train-0.parquet:1"], "parquet comes first"
    assert [row.id for row in FileSource(path=tmp_path, split="train")] == ["data/train-0.parquet:1"]


@pytest.mark.parametrize(
    ("path", "keys", "told"),
    [
        ("{000..001}.tar", {}, "there is no file .*; write \\* in place of"),
        ("*.tar", {}, "there is no file"),
        ("empty", {}, "has no file ending in"),
        ("a.tar.gz", {}, "expected a file ending in"),
        ("here", {"split": "train"}, "none of the 1 files bears it in its name, as in 'a.tar'"),
    ],
)
def test_a_path_that_stands_for_nothing_is_refused(tmp_path, path, keys, told):
    (tmp_path / "empty").mkdir()
    shard(tmp_path / "here" / "a.tar", {"a.txt": "a"})
    with pytest.raises(ConfigError, match=told):
        FileSource(path=tmp_path / path, **keys)


def test_pairs_of_pictures_in_parquet_rows_are_comparisons(tmp_path):
    pictures = {"chosen_picture": png("red"), "rejected_picture": {"bytes": png("blue"), "path": None}, "third": png("red")}
    path = parquet(tmp_path / "pairs.parquet", [{"caption": "red", "note": "n", **pictures}])
    [pair] = FileComparisons(path=path).comparisons()
    assert [rollout.made.pil.getpixel((0, 0)) for rollout in pair.rollouts if isinstance(rollout.made, Picture)] == wanted("red", "blue")
    assert (pair.scores, pair.rollouts[0].sample.target) == ((1.0, 0.0), {"note": "n"})


def test_nothing_is_fetched_before_rows_are_asked_for(monkeypatch, tmp_path):
    parquet(tmp_path / "data" / "train-0.parquet", [{"prompt": "fetched"}])
    asked = []
    monkeypatch.setattr("vlreward.data.records.downloaded", lambda name: asked.append(name) or tmp_path)
    source = FileSource(path=Path("some/dataset"), download=True)
    assert not asked
    assert [row.prompt for row in source if isinstance(row, Sample)] == ["fetched"]
    assert [row.prompt for row in source if isinstance(row, Sample)] == ["fetched"]
    assert asked == ["some/dataset"]


def test_sources_of_sources_know_how_many_rows_they_have_where_theirs_do(tmp_path):
    one, two = (FileSource(path=parquet(tmp_path / f"{name}.parquet", [{"prompt": "p", "image": "a.png"}] * 2)) for name in "ab")
    assert Chain(of=(one, Labelled(of=two, target={"task": "x"}))).length() == 4
    assert Chain(of=(one, Mismatched(of=two))).length() is None
    assert ByPrompt(path=tmp_path / "a.parquet").length() is None, "two rows, one sample"
