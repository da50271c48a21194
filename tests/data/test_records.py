import json

import pytest
from PIL import Image

from vlreward.config import part
from vlreward.data.combine import Mismatched
from vlreward.data.records import FileSource
from vlreward.data.source import BadRow, Source, check_files
from vlreward.errors import ConfigError, DataError
from vlreward.tiny.tasks import TinySource
from vlreward.types import Sample


@pytest.fixture
def source(tmp_path):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png")

    def build(text: str, name: str = "rows.jsonl", **keys) -> list:
        (tmp_path / name).write_text(text)
        return list(FileSource(path=tmp_path / name, **keys))

    return build


def lines(*rows) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def test_a_jsonl_row_becomes_a_sample(source):
    [sample] = source(lines({"id": 7, "caption": "a cat", "image": "a.png", "target": {"text": "x"}, "weight": 2, "response": "red"}))
    assert (sample.id, sample.prompt) == ("7", "a cat")
    assert sample.visuals[0].pil.getpixel((0, 0)) == (255, 0, 0)
    assert sample.target == {"text": "x", "weight": 2, "response": "red"}


def test_a_csv_row_becomes_a_sample_with_lists_read_and_digits_left_as_text(source):
    text = 'id,prompt,image,target.boxes,target.text,target.none\na,"find, it",a.png,"[[1, 2, 3, 4]]",1984,\n'
    [sample] = source(text, "rows.csv")
    assert sample.prompt == "find, it"
    assert sample.target == {"boxes": [[1, 2, 3, 4]], "text": "1984"}


def test_columns_can_be_renamed_and_ids_default_to_the_place(source):
    [sample] = source(lines({"question": "who?", "title": "a title"}), columns={"prompt": "title"})
    assert sample.prompt == "a title"
    assert sample.id == "rows.jsonl:1"
    assert sample.target == {"question": "who?"}


def test_bad_rows_are_reported_with_their_line_and_stop_nothing(source):
    rows = source(
        lines({"prompt": "ok"}, "{broken", '["list"]', {"prompt": "  "}, {"image": "a.png"}, {"prompt": 3}, {"prompt": "x", "image": 5},
              {"prompt": "x", "image": "https://example.org/a.png"}, {"prompt": "x", "target": []}, {"prompt": "last"})
    )  # fmt: skip
    bad = {row.id: row.error for row in rows if isinstance(row, BadRow)}
    assert [row.prompt for row in rows if isinstance(row, Sample)] == ["ok", "last"]
    assert len(bad) == 8
    assert "not JSON" in bad["rows.jsonl:2"]
    assert bad["rows.jsonl:4"] == "prompt is empty"
    assert "prompt is missing" in bad["rows.jsonl:5"]
    assert "nothing is fetched" in bad["rows.jsonl:8"]


def test_a_csv_row_with_too_few_or_too_many_cells_is_reported(source):
    rows = source("id,prompt\na,one\nb\nc,three,four\nd,\n", "rows.csv")
    assert [type(row) for row in rows] == [Sample, BadRow, BadRow, BadRow]
    assert "2" in rows[1].error
    assert rows[3].error == "prompt is empty"


@pytest.mark.parametrize("line", ["[" * 100_000, '{"prompt": ' + "9" * 5000 + "}"], ids=["nested without end", "number without end"])
def test_a_line_of_json_that_no_parser_takes_is_reported_and_stops_nothing(source, line):
    rows = source(lines({"prompt": "ok"}, line, {"prompt": "last"}))
    assert [type(row) for row in rows] == [Sample, BadRow, Sample]
    assert "not JSON" in rows[1].error


def test_a_cell_longer_than_tables_allow_is_reported_and_stops_nothing(source):
    rows = source(f"id,prompt\na,one\nb,{'x' * 140_000}\nc,three\nd,{'[' * 100_000}\n", "rows.csv")
    assert [row.id for row in rows] == ["a", "rows.csv:3", "c", "rows.csv:5"]
    assert "field larger than field limit" in rows[1].error
    assert "characters" in rows[3].error, "a cell that only begins like a list is text"


def test_a_doubled_id_is_reported(source):
    rows = source(lines({"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}))
    assert "was given to an earlier row" in rows[1].error


def test_training_refuses_a_file_with_a_bad_row(tmp_path):
    (tmp_path / "r.jsonl").write_text(lines({"prompt": "x"}, "{", "{"))
    with pytest.raises(DataError, match=r"r\.jsonl:2: not JSON .*and 1 more"):
        FileSource(path=tmp_path / "r.jsonl").samples()
    (tmp_path / "e.jsonl").write_text("")
    with pytest.raises(DataError, match="no samples"):
        FileSource(path=tmp_path / "e.jsonl").samples()


def test_pictures_that_are_not_there_are_named_before_a_training_starts(source):
    rows = source(lines({"prompt": "x", "image": "a.png"}, {"prompt": "y", "image": "lost.png"}, {"prompt": "z", "image": "l" * 300}))
    with pytest.raises(DataError, match=r"rows\.jsonl:2: there is no file '.*lost\.png' \(and 1 more\)"):
        check_files((row.id, visual) for row in rows for visual in row.visuals)
    check_files((row.id, visual) for row in rows[:1] for visual in row.visuals)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"path": "nowhere.jsonl"}, "there is no file 'nowhere.jsonl'"),
        ({"path": "rows.xlsx"}, "expected a file ending in"),
        ({"path": "rows.jsonl", "pictures": "package:no_such_package"}, "no package 'no_such_package'"),
        ({"path": "rows.jsonl", "columns": {"promt": "x"}}, "unknown field 'promt'"),
    ],
)
def test_a_wrong_source_is_refused(tmp_path, monkeypatch, keys, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(ConfigError, match=message):
        part("sources", keys, "data", default_kind="file")


def test_pictures_of_an_installed_package_are_found(source):
    pytest.importorskip("skimage")
    [sample] = source(lines({"prompt": "a page", "image": "page.png"}), pictures="package:skimage.data")
    assert sample.visuals[0].size == (384, 191)


def test_mismatched_gives_each_picture_its_own_and_anothers_words():
    rows = Mismatched(of=TinySource(task="captions", count=5)).samples()
    assert len(rows) == 10
    pairs = {row.target["pair"] for row in rows}
    assert len(pairs) == 5
    for right, wrong in zip(rows[::2], rows[1::2]):
        assert right.visuals == wrong.visuals
        assert right.target["matched"] and not wrong.target["matched"]
        assert (right.prompt, right.target["objects"]) != (wrong.prompt, wrong.target["objects"])


def test_mismatched_passes_bad_rows_on_and_copes_with_equal_words():
    class Odd(Source):
        def __iter__(self):
            yield BadRow("x:1", "bad")
            yield Sample(id="a", prompt="same")
            yield Sample(id="b", prompt="same")

    rows = list(Mismatched(of=Odd()))
    assert [row.id for row in rows] == ["x:1", "a", "b"]
