"""What a scoring run kept is a source of its own."""

import json

import pytest

from vlreward.config import part
from vlreward.data.records import FileSource
from vlreward.errors import ConfigError, DataError


@pytest.fixture
def kept(tmp_path):
    """A file of four rows, of which a run kept the third and the first."""
    rows = [{"prompt": word, "image": "a.png", "target": {"text": word}} for word in ("one", "two", "three", "four")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "broken\n")
    (tmp_path / "run").mkdir()
    chosen = [{"id": f"rows.jsonl:{line}", "prompt": rows[line - 1]["prompt"], "score": 1.0} for line in (3, 1)]
    (tmp_path / "run" / "kept.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))
    return lambda: part("sources", {"kind": "kept", "of": {"path": str(tmp_path / "rows.jsonl")}, "run": str(tmp_path / "run")})


def test_the_samples_come_whole_and_in_the_order_of_the_data(kept, tmp_path):
    found = kept().samples()
    assert [(sample.id, sample.prompt, sample.target["text"]) for sample in found] == [
        ("rows.jsonl:1", "one", "one"),
        ("rows.jsonl:3", "three", "three"),
    ]
    whole = {row.id: row for row in FileSource(path=tmp_path / "rows.jsonl")}
    assert all(sample.visuals[0].key == whole[sample.id].visuals[0].key for sample in found)


def test_data_that_is_no_longer_what_was_scored_is_refused(kept, tmp_path):
    file = tmp_path / "rows.jsonl"
    text = file.read_text()
    file.write_text(text.replace('"prompt": "three"', '"prompt": "tree"'))
    with pytest.raises(DataError, match=r"rows.jsonl:3: its words are not those that were scored"):
        kept().samples()
    file.write_text(text.splitlines(keepends=True)[0])
    with pytest.raises(DataError, match=r"has no row 'rows.jsonl:3', which .*kept.jsonl kept"):
        kept().samples()


def test_a_run_that_kept_nothing_or_something_else_is_refused(kept, tmp_path):
    for text, told in (('{"id": "a"}', "has the keys id, expected id, prompt and score"), ('{"id": ', "not JSON")):
        (tmp_path / "run" / "kept.jsonl").write_text(text + "\n")
        with pytest.raises(DataError, match=rf"kept.jsonl:1: {told}"):
            kept().samples()
    (tmp_path / "run" / "kept.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"there is no kept.jsonl") as caught:
        kept()
    assert caught.value.key == "run"
