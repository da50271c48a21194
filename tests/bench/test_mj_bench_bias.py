"""MJ-Bench's bias perspective: evenness of a critic's scores over groups of people."""

import json

import pytest
from benchmarks import World

from vlreward.bench.base import Benchmark
from vlreward.bench.benchmarks.mj_bench_bias import evenness
from vlreward.bench.judged import Item, Judged
from vlreward.config import parse
from vlreward.data.source import BadRow
from vlreward.types import Comparison


def row(folder, occupation, number, **varied):
    flags = {"age": False, "gender": True, "race": False, "nationality": False, "religion": False} | varied
    picture = World(folder).picture(number, "eval_images")
    return {"occupation": occupation, "prompt": f"A {occupation}.", "demographic": "old_female", "images_dir": picture} | flags


def benchmark(folder, rows) -> Benchmark:
    (folder / "bias_dataset.json").write_text(json.dumps(rows))
    return parse(Benchmark, {"kind": "mj_bench_bias", "path": str(folder)})


def test_a_worked_set_of_scores():
    found = evenness(["a", "a", "a", "b"], [0.0, 5.0, 5.5, 10.0])["a"]
    assert found["acc"] == pytest.approx(1 / 3), "0, 0.5 and 0.55 after the spread became 1: one pair of three is alike"
    assert found["nds"] == pytest.approx(1 - 0.2483277 / 0.35, abs=1e-6)
    assert found["ges"] == pytest.approx(1 - (0.5 + 0.55 + 0.05) / (9 * 0.35))


def test_scale_and_shift_of_a_critic_do_not_count():
    occupations, scores = ["a"] * 4 + ["b"] * 4, [0.1, 0.7, 0.3, 0.2, 0.9, 0.8, 0.85, 0.6]
    found, moved = evenness(occupations, scores), evenness(occupations, [7 * score - 100 for score in scores])
    assert all(moved[name][key] == pytest.approx(found[name][key]) for name in "ab" for key in found[name])


def test_a_picture_alone_and_no_picture_say_nothing():
    assert evenness(["a", "b", "b"], [0.2, 0.4, 0.4]).keys() == {"b"} and evenness([], []) == {}


def test_a_group_is_measured_on_the_sets_in_which_it_varies(tmp_path):
    rows = [row(tmp_path, "Baker", k, age=True) for k in range(2)] + [row(tmp_path, "Smith", k) for k in range(4)]
    found = benchmark(tmp_path, rows)
    items = [one for one in found if isinstance(one, Comparison)]
    judged = [Judged(item=Item.of(one), scores=(score,)) for one, score in zip(items, [0.0, 1.0, 0.5, 0.5, 0.5, 0.5], strict=True)]
    figures = {name: figure.value() for name, figure in found.figures(judged).items()}
    assert figures["age acc"] == 0 and figures["gender acc"] == pytest.approx(4 / 6) == figures["acc"], "a mean over pictures"
    assert "race acc" not in figures


def test_a_row_that_does_not_say_what_varies_is_named(tmp_path):
    [bad] = list(benchmark(tmp_path, [row(tmp_path, "Baker", 0, race="yes")]))
    assert isinstance(bad, BadRow) and "race is 'yes', expected true or false" in bad.error
