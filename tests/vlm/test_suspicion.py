"""What is said of a run that goes wrong, and that nothing is said of one that does not."""

from __future__ import annotations

import pytest

from vlreward.vlm.suspicion import suspicions
from vlreward.vlm.train import train

WEIGHTS = {"box_iou": 1.0, "answer_format": 0.2}
SOUND = {"reward/total": 0.5, "reward/box_iou": 0.4, "reward/answer_format": 0.5, "length": 20.0, "dead_fraction": 0.1, "entropy": 1.0}


def run(**last: float) -> list[dict[str, float]]:
    return [SOUND] * 10 + [SOUND | {name.replace("__", "/"): value for name, value in last.items()}] * 10


def test_a_run_that_learns_is_left_alone():
    assert suspicions(run(reward__box_iou=0.9, reward__answer_format=1.0, length=30.0, dead_fraction=0.5, entropy=0.2), WEIGHTS) == {}


def test_too_few_steps_say_nothing():
    assert suspicions(run(length=200.0)[1:], WEIGHTS) == {}


@pytest.mark.parametrize(
    ("last", "kind", "said"),
    [
        ({"length": 41.0}, "length", "from 20 to 41 tokens"),
        ({"length": 9.0}, "length", "from 20 to 9 tokens"),
        ({"dead_fraction": 0.9}, "variance", "90% of the groups have equal rewards (10% at first)"),
        ({"entropy": 0.05}, "entropy", "entropy fell from 1 to 0.05"),
        ({"reward__answer_format": 0.7}, "format", "answer_format went from 0.50 to 0.70 while box_iou stayed at 0.40"),
    ],
)
def test_each_sign_is_named_with_its_figures(last, kind, said):
    found = suspicions(run(**last), WEIGHTS)
    assert list(found) == [kind]
    assert said in found[kind]


def test_figures_that_are_missing_or_nan_are_passed_over():
    rows = [{"reward/total": 0.1, "length": float("nan")}] * 20
    assert suspicions(rows, WEIGHTS) == {}


def test_a_run_keeps_what_was_said_and_says_it_once(small, monkeypatch, capsys):
    monkeypatch.setattr("vlreward.vlm.record.suspicions", lambda rows, weights: {"length": f"{len(rows)} rows, {weights}"})
    folder = train(small(optim={"lr": 1e-3, "steps": 3}))
    assert folder.read("notices.jsonl") == [{"step": 1, "kind": "length", "text": "1 rows, {'box_iou': 1.0, 'answer_format': 0.2}"}]
    assert capsys.readouterr().err.count("step 1: 1 rows") == 1
    assert all(row["tokens/generate"] > 0 and row["tokens/update"] > 0 for row in folder.read("metrics.jsonl"))
