"""scripts/bench_algorithms.py: equal budgets, what is measured after a run, and the table."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vlreward.config import load
from vlreward.flow.config import Align
from vlreward.run import RunFolder

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
CONFIG = SCRIPTS.parent / "configs" / "align" / "tiny_objects.yaml"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the script sets it
    return importlib.import_module("bench_algorithms")


def place(folder: Path, name: str, after: list[float]) -> Path:
    """A finished run whose held-out samples all scored 0.4 before."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    for phase, values in (("before", [0.4] * len(after)), ("after", after)):
        rows = [{"id": str(i), "scores": {"object_match": value, "clip_score": 1.0}} for i, value in enumerate(values)]
        (folder / name / f"evaluation_{phase}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def shown(after: list[float], **figures) -> dict[str, Any]:
    """What a run of samples that all scored 0.4 before showed."""
    known = {"epochs": 8, "calls": 3072, "seconds": 80.0, "trained_on": "object_match", "kl": 0.5}
    known |= {"diversity_base": 0.2, "diversity_train": 0.1}
    return known | {"gains": {"object_match": [value - 0.4 for value in after], "clip_score": [0.0] * len(after)}} | figures


def test_all_configurations_that_draw_objects_are_compared_and_the_first_one_comes_first(bench):
    names = list(bench.configurations([]))
    assert names[0] == bench.FIRST
    assert {"nft", "tempflow", "draft"} <= set(names)
    with pytest.raises(SystemExit, match="there is no nfd among"):
        bench.configurations(["nfd"])


def test_epochs_follow_from_the_calls_and_then_from_the_seconds_of_the_first(bench, tmp_path, monkeypatch):
    asked = []
    figures = bench.Figures(tmp_path / "figures.jsonl")

    def train(path, name, options, *overrides):
        asked.append((name, overrides))
        pace = 30.0 if name.startswith("dense") else 10.0
        epochs = int(overrides[0].removeprefix("optim.epochs="))
        return figures.keep(name, shown([0.5], epochs=epochs, calls=96 * epochs, seconds=pace * epochs), CONFIG)

    monkeypatch.setattr(bench, "train", train)
    options = argparse.Namespace(calls=600, seconds=None, figures=figures, only_calls=False)
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
    assert sum(name.endswith("-epoch") for name, _ in asked) == 3
    bench.budgets(Path(), "nft", 8, False, argparse.Namespace(**vars(options) | {"only_calls": True}))
    assert [name for name, _ in asked][-1] == "nft-8-calls", (
        "what an epoch judges is known, and nobody asked for equal seconds, which hang on a run that is missing"
    )


def test_a_gain_is_over_prompts_and_seeds_and_the_seconds_column_takes_the_run_of_that_budget(bench, tmp_path):
    figures = bench.Figures(tmp_path / "figures.jsonl")
    figures.keep("nft-7-calls", shown([0.5, 0.7]), CONFIG)
    figures.keep("nft-8-calls", shown([0.5, 0.5], kl=1.5), CONFIG)
    figures.keep("objects-7-calls", shown([0.5], seconds=40.0), CONFIG)
    figures.keep("objects-8-calls", shown([0.5]), CONFIG)
    options, runs = argparse.Namespace(seconds=None, figures=figures), {"nft": ["nft-7-calls", "nft-8-calls"]}
    row = bench.table(runs, options).splitlines()[-1]
    assert "| +0.100 [+0.100, +0.100], seed 8 |" in row, "the first seed's other run is missing"
    figures.keep("nft-7-seconds", shown([0.9, 0.9]), CONFIG)
    row = bench.table(runs, options).splitlines()[-1]
    assert "| +0.150 [-0.485, +0.785] (+0.20 +0.10) |" in row  # of the prompts' mean gains 0.1 and 0.2
    assert "| +0.300 [+0.300, +0.300] (+0.50 +0.10) |" in row  # of the first seed's other run, and the second's only one
    assert "| 8 | 10.0 | 0.200 to 0.100 | 1 |" in row
    del figures.runs["objects-8-calls"]
    row = bench.table(runs, options).splitlines()[-1]
    assert ", seed 7 |" in row, "nobody knows how long the second seed's first configuration took"
    del figures.runs["nft-7-seconds"]
    assert bench.table(runs, options).splitlines()[-1].count("| – |") == 1
    figures.keep("crd-7-calls", shown([0.9, 0.9]), CONFIG)
    rows = bench.table({"nft, shuffled": ["nft-7-calls"], **runs, "crd": ["crd-7-calls"]}, options).splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == ["crd", "nft", "nft, shuffled"], "the furthest first, controls last"


def test_a_run_that_is_kept_is_not_made_again_by_another_process(bench, tmp_path):
    bench.Figures(tmp_path / "kept" / "figures.jsonl").keep("nft-7-calls", shown([0.5]), CONFIG)
    bench.Figures(tmp_path / "kept" / "figures.jsonl").keep("nft-7-calls", shown([0.7]), CONFIG)
    figures = bench.Figures(tmp_path / "kept" / "figures.jsonl")
    options = argparse.Namespace(figures=figures)
    assert bench.train(Path("missing.yaml"), "nft-7-calls", options, "optim.epochs=8")["gains"]["object_match"] == [0.7 - 0.4]
    with pytest.raises(FileNotFoundError):  # of another budget, so it would be made
        bench.train(Path("missing.yaml"), "nft-7-calls", options, "optim.epochs=9")
    (tmp_path / "kept" / "figures.jsonl").write_text('{"run": "nft-7-calls"}\n[1]\n')
    with pytest.raises(SystemExit, match=r"figures\.jsonl:2: not a run"):
        bench.Figures(tmp_path / "kept" / "figures.jsonl")


def test_a_run_whose_configuration_has_changed_since_is_left_out(bench, tmp_path, capsys):
    file = tmp_path / "figures.jsonl"
    bench.Figures(file).keep("objects-7-calls", shown([0.5]), CONFIG)
    assert "objects-7-calls" in bench.Figures(file)
    assert capsys.readouterr().err == ""
    file.write_text(json.dumps(json.loads(file.read_text()) | {"mark": "of other settings"}) + "\n")
    assert "objects-7-calls" not in bench.Figures(file)
    assert "objects-7-calls is left out: configs/align/tiny_objects.yaml has changed since" in capsys.readouterr().err


def test_gains_stand_in_the_order_of_the_samples_ids(bench, tmp_path):
    made = place(tmp_path, "nft-7-calls", [0.5, 0.7])
    rows = (made / "evaluation_after.jsonl").read_text().splitlines()
    (made / "evaluation_after.jsonl").write_text("\n".join(rows[::-1]))
    assert bench.gains(made, "object_match") == [0.1, 0.3]


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


def test_an_evaluation_serves_other_runs_only_where_it_judged_what_they_judge(bench, tmp_path):
    known = place(tmp_path, "objects-7-calls", [0.5, 0.6])
    trainer = SimpleNamespace(held_out=[1, 2], config=SimpleNamespace(rewards=SimpleNamespace(names=("object_match", "clip_score"))))
    assert bench.Timed._evaluated(trainer, known, "before")
    trainer.config.rewards.names = ("object_match", "prompt_echo")
    assert not bench.Timed._evaluated(trainer, known, "before")
    trainer.config.rewards.names = ("object_match",)
    assert not bench.Timed._evaluated(trainer, known, "before"), "what only that run judged has no score after this one"
    trainer.held_out = [1]
    trainer.config.rewards.names = ("object_match", "clip_score")
    assert not bench.Timed._evaluated(trainer, known, "before")
