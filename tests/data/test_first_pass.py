"""Data chosen and labelled by a first pass over it."""

from __future__ import annotations

import json

import pytest

from vlreward.config import part
from vlreward.data.source import BadRow
from vlreward.errors import ConfigError, DataError

RATES = [("a", 0.0, 90.0), ("b", 0.125, 250.0), ("c", 0.5, 99.0), ("d", 0.875, 150.0), ("e", 1.0, 20.0), ("f", None, 300.0)]


@pytest.fixture
def source(tmp_path):
    """Builds a source over samples a to f, whose rates are given."""
    (tmp_path / "data.jsonl").write_text("".join(json.dumps({"id": name, "prompt": "?", "answer": name}) + "\n" for name, *_ in RATES))
    rows = [{"id": name, "rate": rate, "tokens": tokens} for name, rate, tokens in RATES]

    def build(kind: str, rows: list = rows, **keys):
        file = tmp_path / "solve_rates.jsonl"
        file.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
        return part(
            "sources", {"kind": kind, "of": {"path": str(tmp_path / "data.jsonl")}, "rates": str(file), **keys}, "data", default_kind="file"
        )

    return build


def test_samples_between_the_bounds_are_kept_with_their_rate(source):
    kept = source("by_difficulty", low=0.125, high=0.875).samples()
    assert [(sample.id, sample.target) for sample in kept] == [
        ("b", {"answer": "b", "solve_rate": 0.125}),
        ("c", {"answer": "c", "solve_rate": 0.5}),
        ("d", {"answer": "d", "solve_rate": 0.875}),
    ]
    assert [sample.id for sample in source("by_difficulty", low=0, high=1).samples()] == ["a", "b", "c", "d", "e"], (
        "nothing was judged of f"
    )


def test_short_answers_mean_fast_long_ones_slow_and_those_between_are_left_out(source):
    labelled = source("by_answer_length", fast_below=100, slow_above=200).samples()
    assert {sample.id: sample.target["thinking"] for sample in labelled} == {
        "a": "fast",
        "b": "slow",
        "c": "fast",
        "e": "fast",
        "f": "slow",
    }


def test_sources_of_a_first_pass_can_be_put_into_each_other(source, tmp_path):
    inner = {"kind": "by_difficulty", "of": {"path": str(tmp_path / "data.jsonl")}, "rates": str(tmp_path / "solve_rates.jsonl")}
    source("by_difficulty", low=0, high=1)
    keys = {
        "kind": "by_answer_length",
        "of": inner | {"low": 0.1, "high": 0.9},
        "rates": inner["rates"],
        "fast_below": 100,
        "slow_above": 200,
    }
    found = {sample.id: (sample.target["thinking"], sample.target["solve_rate"]) for sample in part("sources", keys).samples()}
    assert found == {"b": ("slow", 0.125), "c": ("fast", 0.5)}


def test_a_sample_that_the_first_pass_did_not_see_is_refused(source):
    rows = [{"id": "a", "rate": 0.5, "tokens": 3.0}]
    [first, second, *_] = list(source("by_difficulty", rows, low=0, high=1))
    assert first.id == "a"
    assert isinstance(second, BadRow)
    with pytest.raises(DataError, match=r"b: has no row in .*solve_rates\.jsonl; answer these samples"):
        source("by_difficulty", rows, low=0, high=1).samples()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{nonsense\n", "solve_rates.jsonl:2: not JSON"),
        ({"id": "b", "rate": "high", "tokens": 3}, "solve_rates.jsonl:2: is no row of a first pass"),
        ({"id": "b", "rate": 0.5}, "solve_rates.jsonl:2: is no row of a first pass"),
        ({"id": "a", "rate": 0.5, "tokens": 3}, "solve_rates.jsonl:2: a second row for 'a'"),
    ],
)
def test_a_broken_file_of_rates_is_refused_with_its_line(source, row, said):
    with pytest.raises(DataError, match=said):
        source("by_difficulty", [{"id": "a", "rate": 0.5, "tokens": 3}, row], low=0, high=1).samples()


def test_impossible_bounds_and_a_missing_file_are_refused(source, tmp_path):
    with pytest.raises(ConfigError, match=r"more than high = 0\.2"):
        source("by_difficulty", low=0.5, high=0.2)
    with pytest.raises(ConfigError, match="more than slow_above = 100"):
        source("by_answer_length", fast_below=200, slow_above=100)
    with pytest.raises(ConfigError, match="eval CONFIG eval"):
        part(
            "sources",
            {"kind": "by_difficulty", "of": {"kind": "tiny", "task": "tally", "count": 2}, "rates": "no.jsonl", "low": 0, "high": 1},
        )
