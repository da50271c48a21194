"""Each command from its shipped configuration, a step or two long, through to the report."""

import json

import pytest

from vlreward.cli import main

REWARD = """\
from dataclasses import dataclass

from vlreward.rewards.base import Reward


@dataclass(kw_only=True)
class Brightness(Reward):
    needs = ("visual",)

    def one(self, rollout):
        return float(rollout.visual.tensor.mean())
"""
SHORT = {
    "train-vlm": [
        "configs/vlm/tiny_grounding.yaml", "optim.steps=2", "group.prompts=2", "group.size=2", "data.count=8", "eval.data.count=8",
    ],
    "align": [
        "configs/align/tiny_objects.yaml", "optim.epochs=1", "group.groups=2", "group.size=4", "group.micro_batch=4", "data.count=8",
        "eval.data.count=8", "eval.batch=8",
    ],
    "score": ["configs/score/tiny_demo.yaml", "data={kind: tiny, task: captions, count: 6}"],
    "eval": ["configs/vlm/tiny_grounding.yaml", "eval.data.count=8"],
}  # fmt: skip
FILES = {
    "train-vlm": ("config.yaml", "metrics.jsonl", "rollouts.jsonl", "summary.json", "report.html", "policy/model.safetensors"),
    "align": ("config.yaml", "metrics.jsonl", "rollouts.jsonl", "summary.json", "report.html", "lora/pytorch_lora_weights.safetensors"),
    "score": ("config.yaml", "scores.jsonl", "kept.jsonl", "rollouts.jsonl", "summary.json", "report.html"),
    "eval": ("config.yaml", "evaluation_before.jsonl", "summary.json", "report.html"),
}


@pytest.fixture(autouse=True)
def _root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def run(command, folder, *overrides):
    return main([command, *SHORT[command], f"run.folder={folder}", "run.name=short", *overrides])


@pytest.mark.parametrize("command", list(SHORT))
def test_a_command_runs_from_its_shipped_configuration_to_the_report(command, tmp_path, capsys):
    assert run(command, tmp_path) == 0
    folder = tmp_path / ("short-eval" if command == "eval" else "short")
    for name in FILES[command]:
        assert (folder / name).stat().st_size > 0, f"{command} wrote no {name}"
    assert json.loads((folder / "run.json").read_text())["status"] == "done"
    assert str(folder / "report.html") in capsys.readouterr().out
    assert main(["report", str(folder)]) == 0


def test_eval_reads_an_align_configuration_too(tmp_path):
    short = [part for part in SHORT["align"] if not part.startswith("data.")]
    assert main(["eval", *short, f"run.folder={tmp_path}", "run.name=short"]) == 0
    summary = json.loads((tmp_path / "short-eval" / "summary.json").read_text())
    assert 0 < summary["held_out"]["object_match"]["before"] < 1


@pytest.mark.parametrize("command", ["score", "train-vlm", "align"])
def test_a_reward_from_a_file_of_ones_own_works_in_every_command(command, tmp_path):
    (tmp_path / "my_reward.py").write_text(REWARD)
    assert run(command, tmp_path, f"rewards=[{{kind: '{tmp_path}/my_reward.py:Brightness'}}]") == 0
    summary = json.loads((tmp_path / "short" / "summary.json").read_text())
    mean = summary["terms"]["Brightness"]["mean"] if command == "score" else summary["held_out"]["Brightness"]["after"]
    assert 0.5 < mean < 1
    rows = [json.loads(line) for line in (tmp_path / "short" / "rollouts.jsonl").read_text().splitlines()]
    assert all("Brightness" in row["scores"] for row in rows)


def test_a_run_folder_that_exists_is_not_overwritten(tmp_path, capsys):
    assert run("score", tmp_path) == 0
    assert run("score", tmp_path) == 2
    assert "add --resume to go on with it or --fresh to replace it" in capsys.readouterr().err
    assert run("score", tmp_path, "--resume") == 0
    assert run("score", tmp_path, "--fresh") == 0


def test_one_held_out_sample_has_a_mean_without_an_interval(tmp_path, capsys):
    assert run("eval", tmp_path, "eval.data.count=1") == 0
    said = capsys.readouterr().out
    assert "held-out box_iou: 0." in said
    assert "nan" not in said
    assert "NaN" not in (tmp_path / "short-eval" / "summary.json").read_text()
