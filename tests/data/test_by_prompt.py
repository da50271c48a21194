"""Rows that share a prompt become one sample."""

import json

import pytest

from vlreward.data.by_prompt import ByPrompt
from vlreward.data.source import BadRow
from vlreward.errors import ConfigError


def source(tmp_path, rows, **keys) -> ByPrompt:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ByPrompt(path=tmp_path / "rows.jsonl", **keys)


def test_pictures_stand_side_by_side_with_what_each_row_says_of_its_own(tmp_path):
    rows = [
        {"prompt": "a", "image": "1.png", "target": {"score": 0.5, "kind": "x"}},
        {"prompt": "b", "image": "2.png", "target": {"score": 0.1, "kind": "x"}},
        {"prompt": "a", "image": "3.png", "target": {"score": 0.9, "kind": "x"}},
    ]
    [sample] = source(tmp_path, rows).samples()
    assert (sample.prompt, len(sample.visuals)) == ("a", 2)
    assert sample.target == {"kind": "x", "pictures": [{"score": 0.5, "kind": "x"}, {"score": 0.9, "kind": "x"}]}
    assert [s.prompt for s in source(tmp_path, rows, at_least=1)] == ["a", "b"]  # type: ignore[union-attr]


def test_logged_rollouts_of_a_run_are_read_although_their_ids_repeat(tmp_path):
    logged = {"phase": "before", "step": 0, "id": "one", "prompt": "a", "text": None, "made": True, "errors": []}
    rows = [{**logged, "picture": f"media/{k}.png", "total": k / 2} for k in range(3)] + [{**logged, "picture": None, "total": None}]
    [sample] = source(tmp_path, rows).samples()
    assert sample.id == "one"
    assert [row["total"] for row in sample.target["pictures"]] == [0.0, 0.5, 1.0]


def test_a_bad_row_is_named(tmp_path):
    [bad] = source(tmp_path, [{"image": "1.png"}])
    assert isinstance(bad, BadRow)
    assert bad.id == "rows.jsonl:1"


def test_what_makes_such_a_file_is_told_where_there_is_none(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no file .*; `vlreward eval CONFIG eval\.pictures=16` draws and judges pictures"):
        ByPrompt(path=tmp_path / "rollouts.jsonl")
