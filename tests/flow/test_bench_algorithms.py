"""scripts/bench_algorithms.py: equal budgets, what is measured after a run, and the table."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from vlreward.config import load
from vlreward.flow.config import Align
from vlreward.run import RunFolder

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the script sets it
    return importlib.import_module("bench_algorithms")


def place(folder: Path, name: str, after: list[float], **figures) -> Path:
    """A finished run whose held-out samples all scored 0.4 before."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    for phase, values in (("before", [0.4] * len(after)), ("after", after)):
        rows = [{"id": str(i), "scores": {"object_match": value, "clip_score": 1.0}} for i, value in enumerate(values)]
        (folder / name / f"evaluation_{phase}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    known = {
        "epochs": 8,
        "calls": 3072,
        "seconds": 80.0,
        "trained_on": "object_match",
        "kl": 0.5,
        "diversity_base": 0.2,
        "diversity_train": 0.1,
    }
    (folder / name / "measured.json").write_text(json.dumps(known | figures))
    return folder / name


def test_all_configurations_that_draw_objects_are_compared_and_the_first_one_comes_first(bench):
    names = list(bench.configurations([]))
    assert names[0] == bench.FIRST
    assert {"nft", "tempflow", "draft"} <= set(names)
    with pytest.raises(SystemExit, match="there is no nfd among"):
        bench.configurations(["nfd"])


def test_epochs_follow_from_the_calls_and_then_from_the_seconds_of_the_first(bench, tmp_path, monkeypatch):
    asked = []

    def train(path, name, options, *overrides):
        asked.append((name, overrides))
        pace = 30.0 if name.startswith("dense") else 10.0
        epochs = int(overrides[0].removeprefix("optim.epochs="))
        return place(tmp_path, name, [0.5], epochs=epochs, calls=96 * epochs, seconds=pace * epochs)

    monkeypatch.setattr(bench, "train", train)
    options = argparse.Namespace(calls=600, seconds=None, folder=tmp_path)
    for name in (bench.FIRST, "dense", "nft"):
        bench.budgets(Path(), name, 7, False, options)
    bench.budgets(Path(), "nft", 7, True, options)
    runs = {name: overrides[0] for name, overrides in asked if not name.endswith("-epoch")}
    assert runs == {
        "objects-7-calls": "optim.epochs=6",
        "dense-7-calls": "optim.epochs=6",
        "dense-7-seconds": "optim.epochs=2",
        "nft-7-calls": "optim.epochs=6",
        "nft-shuffled-calls": "optim.epochs=6",
    }
    assert "control=shuffle_rewards" in asked[-1][1]


def test_a_gain_is_over_prompts_and_seeds_and_the_seconds_column_takes_the_run_of_that_budget(bench, tmp_path):
    first, second = place(tmp_path, "nft-7-calls", [0.5, 0.7]), place(tmp_path, "nft-8-calls", [0.5, 0.5], kl=1.5)
    place(tmp_path, "objects-7-calls", [0.5], seconds=40.0)
    place(tmp_path, "objects-8-calls", [0.5])
    options = argparse.Namespace(seconds=None, folder=tmp_path)
    assert bench.table({"nft": [first, second]}, options).splitlines()[-1].count("| – |") == 1, "the first seed's other run is missing"
    place(tmp_path, "nft-7-seconds", [0.9, 0.9])
    row = bench.table({"nft": [first, second]}, options).splitlines()[-1]
    assert "| +0.150 [-0.485, +0.785] (+0.20 +0.10) |" in row  # of the prompts' mean gains 0.1 and 0.2
    assert "| +0.300 [+0.300, +0.300] (+0.50 +0.10) |" in row  # of the first seed's other run, and the second's only one
    assert "| 8 | 10.0 | 0.200 to 0.100 | 1 |" in row
    (tmp_path / "objects-8-calls" / "measured.json").unlink()
    row = bench.table({"nft": [first, second]}, options).splitlines()[-1]
    assert row.count("| – |") == 1, "nobody knows how long the second seed's first configuration took"


def test_nothing_has_departed_before_training_and_something_has_after_it(bench, config_text, tmp_path, monkeypatch):
    (tmp_path / "run.yaml").write_text(config_text)
    monkeypatch.setattr(bench, "PROMPTS", 2)
    config, _ = load(tmp_path / "run.yaml", ["optim.lr=0.01"], Align)
    assert config.eval is not None
    folder = RunFolder.open(config.run, "align", config)
    trainer = bench.Timed(config, folder, config.data.samples(), config.eval.data.samples(), "cpu")
    assert bench.departure(trainer) == 0
    before = bench.diversity(trainer, "base")
    assert before == bench.diversity(trainer, trainer.evaluated) > 0
    trainer.fit()
    assert trainer.calls == 4 * 12
    assert trainer.spent > 0
    assert bench.departure(trainer) > 0
    assert bench.diversity(trainer, "base") == before != bench.diversity(trainer, trainer.evaluated)


def test_an_evaluation_serves_other_runs_only_where_it_judged_all_that_they_judge(bench, tmp_path):
    known = place(tmp_path, "objects-7-calls", [0.5, 0.6])
    trainer = SimpleNamespace(held_out=[1, 2], config=SimpleNamespace(rewards=SimpleNamespace(names=("object_match",))))
    assert bench.Timed._evaluated(trainer, known, "before")
    trainer.config.rewards.names = ("object_match", "prompt_echo")
    assert not bench.Timed._evaluated(trainer, known, "before")
    trainer.held_out = [1]
    trainer.config.rewards.names = ("object_match",)
    assert not bench.Timed._evaluated(trainer, known, "before")
