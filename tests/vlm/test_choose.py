"""`vlreward eval` with a chooser, beside one answer each."""

from __future__ import annotations

import json

import pytest
import yaml

from vlreward.commands import evaluate
from vlreward.config import resolved
from vlreward.errors import ConfigError
from vlreward.vlm.train import train

HELD_OUT = {"kind": "tiny", "task": "grounding", "count": 6, "holdout": True}


def test_eval_with_a_chooser_reports_the_gain_over_one_answer_and_the_tokens_of_both(small, tmp_path, capsys):
    choose = {"kind": "best_of_n", "size": 4, "by": ["box_iou"], "oracle": True}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(resolved(small(eval={"data": HELD_OUT, "choose": choose}))))
    assert evaluate(str(file), [], False, False) == 0
    summary = json.loads((tmp_path / "small-eval" / "summary.json").read_text())
    held, spent = summary["held_out"]["box_iou"], summary["choose"]
    rows = [json.loads(line) for line in (tmp_path / "small-eval" / "rollouts.jsonl").read_text().splitlines()]
    assert [row["phase"] for row in rows] == ["before"] * 6 + ["after"] * 6
    assert held["gain"] == pytest.approx(held["after"] - held["before"])
    assert held["gain"] > 0
    assert spent["answers"] == 4
    assert 2.5 * spent["tokens_single"] < spent["tokens"] < 6 * spent["tokens_single"]
    said = capsys.readouterr().out
    assert f"chosen from 4.0 answers of {spent['tokens']:.1f} tokens a sample; one takes {spent['tokens_single']:.1f}" in said


def test_a_training_is_not_measured_on_chosen_answers(small):
    choose = {"kind": "self_consistency"}
    with pytest.raises(ConfigError, match="is for `vlreward eval`"):
        train(small(eval={"data": HELD_OUT, "choose": choose}))
    with pytest.raises(ConfigError, match="nothing to choose between"):
        small(eval={"data": HELD_OUT, "choose": choose, "temperature": 0.0})
    with pytest.raises(ConfigError, match="compared with one answer"):
        small(eval={"data": HELD_OUT, "choose": choose, "answers": 2})


def test_four_agents_answer_with_policies_of_their_own(small, tmp_path):
    """The tiny policies were never taught these roles: what they write is no use, but it goes all the way."""
    choose = {
        "kind": "agents",
        "by": ["text_likelihood"],
        "planning": {"paths": 2, "steps": 2, "relate": "{question}"},
        "execution": {"prompt": "{question} {step}", "candidates": 2},
        "judgement": {"corrections": 1, "thinking": 20, "max_new_tokens": 24, "model": "assets/tiny-vlm-reader"},
        "answering": {"temperature": 0.0},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(resolved(small(eval={"data": HELD_OUT | {"count": 3}, "choose": choose}))))
    assert evaluate(str(file), [], False, False) == 0
    folder = tmp_path / "small-eval"
    rows = [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows[3:]] == [row["id"] for row in rows[:3]]
    assert [row["prompt"] for row in rows[3:]] == [row["prompt"] for row in rows[:3]]
    spent = json.loads((folder / "summary.json").read_text())["choose"]
    assert spent["answers"] >= 2 + 2 + 2 * 2 + 2 + 1
    assert spent["tokens"] >= 2 * 20, "each verdict has its least number of tokens"
