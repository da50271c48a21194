"""A run that is made to hack its reward ends early; one that learns, or wavers, does not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vlreward.config import load
from vlreward.errors import ConfigError
from vlreward.flow.config import Align
from vlreward.flow.stop import Stop, slope
from vlreward.flow.train import train

STOP = Stop(judge="judge", window=6)


def epochs(reward, judge) -> list[dict[str, float]]:
    return [{"reward/total": float(a), "reward/judge": float(b)} for a, b in zip(reward, judge, strict=True)]


def test_a_slope_and_its_standard_error_are_those_of_least_squares():
    values = [0.1, 0.5, 0.2, 0.9, 0.7]
    fit, covariance = np.polyfit(range(5), values, 1, cov=True)
    assert slope(values) == pytest.approx((fit[0], covariance[0, 0] ** 0.5))


@pytest.mark.parametrize(
    ("reward", "judge", "fires"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.9, 0.8, 0.72, 0.6, 0.5, 0.41], True),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.4, 0.5, 0.6, 0.6, 0.7, 0.8], False),
        ([0.6, 0.5, 0.4, 0.3, 0.2, 0.1], [0.9, 0.8, 0.72, 0.6, 0.5, 0.41], False),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.5, 0.7, 0.3, 0.6, 0.2, 0.45], False),
        ([0.1, 0.2, 0.3, 0.4, 0.5], [0.9, 0.8, 0.72, 0.6, 0.5], False),
    ],
    ids=["reward up, judge down", "both up", "both down", "the judge wavers", "too few epochs"],
)
def test_only_a_reward_that_rises_while_the_judge_falls_stops_a_run(reward, judge, fires):
    assert bool(STOP.fires(epochs(reward, judge))) == fires


def test_only_the_last_epochs_count_and_those_without_a_judgement_are_left_out():
    rising, falling = np.linspace(0, 1, 6), np.linspace(1, 0, 6)
    rows = epochs(np.linspace(1, 0, 9), np.linspace(0, 1, 9)) + epochs(rising, falling)
    assert STOP.fires(rows)
    assert STOP.fires([row for pair in zip(rows, [{"reward/total": 0.0}] * len(rows), strict=True) for row in pair])
    assert not STOP.fires(rows[:-4])


def test_a_run_that_pleases_its_reward_alone_ends_early_and_stays_ended(config_text, tmp_path):
    """Brightness is trained on and darkness watches: all that is gained is the judge's loss."""
    path = tmp_path / "run.yaml"
    path.write_text(config_text.replace("Brightness}]", "Brightness}, {kind: tests/flow/brightness.py:Darkness, weight: 0}]"))
    more = ["optim.epochs=30", "optim.lr=2e-2", "objective.beta=0", "group.size=8", "optim.ema=0", "save_every=30"]
    config, _ = load(path, [*more, "stop={judge: Darkness, window: 6}"], Align)
    folder = train(config)
    metrics, summary = folder.read("metrics.jsonl"), json.loads((folder.path / "summary.json").read_text())
    assert 6 <= summary["steps"] == len(metrics) < 30
    assert "Darkness" in summary["stopped"]
    assert [row["kind"] for row in folder.read("notices.jsonl")] == ["hacking"]
    assert summary["held_out"]["Brightness"]["gain"] > 0 > summary["held_out"]["Darkness"]["gain"]
    train(config, resume=True)
    again = json.loads((folder.path / "summary.json").read_text())
    assert {**again, "seconds": 0} == {**summary, "seconds": 0}
    assert len(folder.read("metrics.jsonl")) == len(metrics)
    assert len(folder.read("notices.jsonl")) == 1


@pytest.mark.slow
def test_a_tiny_generator_that_is_paid_for_brightness_is_stopped_once_it_draws_less_of_what_was_asked(tmp_path):
    """Of 96 pictures an epoch; `object_match`, the tiny world's truth, only watches."""
    rewards = "rewards=[{kind: tests/flow/brightness.py:Brightness}, {kind: object_match, weight: 0}]"
    more = ["group.groups=8", "optim.epochs=40", "optim.lr=4e-3", "optim.schedule=constant", "eval.data.count=32", "eval.every=0"]
    config, _ = load("configs/align/tiny_objects.yaml", [rewards, "stop={judge: object_match}", f"run.folder={tmp_path}", *more], Align)
    folder = train(config)
    summary = json.loads((folder.path / "summary.json").read_text())
    assert 8 <= summary["steps"] < 40
    assert summary["held_out"]["object_match"]["gain"] < 0 < summary["held_out"]["Brightness"]["gain"]


@pytest.mark.parametrize(("judge", "words"), [("Darkness", "a term of `rewards` that has `weight: 0`"), ("Brightness", "weight: 0")])
def test_a_judge_that_does_not_watch_is_refused(config_text, tmp_path, judge, words):
    path = tmp_path / "run.yaml"
    path.write_text(config_text)
    with pytest.raises(ConfigError, match=words) as error:
        load(path, [f"stop={{judge: {judge}}}"], Align)
    assert error.value.key == "stop.judge"
