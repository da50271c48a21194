"""A training leaves a critic, goes on to the same numbers after a kill, and refuses what is wrong in one line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
import torch
import yaml
from critics_config import small_config
from safetensors.torch import load_file

from vlreward.cli import main
from vlreward.config import load
from vlreward.critics.config import Optim, TrainCritic
from vlreward.critics.network import Critic
from vlreward.critics.train import train
from vlreward.critics.trainer import schedule
from vlreward.errors import ConfigError

DEADLY = """
import os, signal, sys
from vlreward.run import RunFolder
log = RunFolder.log
def deadly(self, step, **figures):
    log(self, step, **figures)
    if step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
RunFolder.log = deadly
from vlreward.commands import train_critic
train_critic(sys.argv[1], ["run.name=killed"], False, False)
"""


@pytest.fixture
def run(tmp_path):
    """Reads the small configuration with some blocks replaced."""

    def build(name: str = "small", **blocks) -> TrainCritic:
        tree = small_config(tmp_path, name) | blocks
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(tree))
        return load(tmp_path / f"{name}.yaml", [], TrainCritic)[0]

    return build


def weights(folder):
    return load_file(next((folder / "critic").glob("*model.safetensors"))) | load_file(folder / "critic" / "head.safetensors")


@pytest.mark.parametrize("lora", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_resumes_bit_equal(run, tmp_path, lora):
    """Five steps of two micro-batches with dropout, a checkpoint after the third; the kill falls after the fourth was logged."""
    head = {"kind": "scalar", "layers": 2, "dropout": 0.1}
    critic = small_config(tmp_path, "")["critic"] | {"head": head, "lora": lora}
    whole = train(run("whole", critic=critic))
    run("killed", critic=critic)
    died = subprocess.run(
        [sys.executable, "-c", DEADLY, str(tmp_path / "killed.yaml")], capture_output=True, text=True, timeout=200, check=False
    )
    assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
    resumed = train(run("killed", critic=critic), resume=True)
    first, second = weights(whole.path), weights(resumed.path)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    rows = [[{k: v for k, v in row.items() if not k.startswith("time/")} for row in f.read("metrics.jsonl")] for f in (whole, resumed)]
    assert [row["step"] for row in rows[1]] == [1, 2, 3, 4, 5]
    assert rows[0] == rows[1]
    assert whole.read("evaluation_after.jsonl") == resumed.read("evaluation_after.jsonl")


def test_a_run_leaves_a_critic_its_figures_and_a_page_with_calibration(run, tmp_path, capsys):
    run()
    assert main(["train-critic", str(tmp_path / "small.yaml")]) == 0
    assert "held-out pair_accuracy" in capsys.readouterr().out
    folder = tmp_path / "small"
    summary = json.loads((folder / "summary.json").read_text())
    assert {"before", "after", "gain"} <= summary["held_out"]["pair_accuracy"].keys()
    assert {"pair_accuracy", "calibration", "length"} <= summary["critic"].keys()
    page = (folder / "report.html").read_text()
    assert "Calibration and length" in page
    assert "difference of the two" in page
    assert Critic.load(folder / "critic").head.kind == "scalar"
    assert {row["phase"] for row in (json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines())} == {"after"}


def test_a_critic_is_only_evaluated_in_a_folder_of_its_own(run, tmp_path, capsys):
    trained = train(run())
    assert main(["eval", str(tmp_path / "small.yaml"), f"critic.model={trained.path / 'critic'}"]) == 0
    assert "held-out pair_accuracy" in capsys.readouterr().out
    evaluated = [json.loads(line) for line in (tmp_path / "small-eval" / "evaluation_after.jsonl").read_text().splitlines()]
    assert evaluated == trained.read("evaluation_after.jsonl")


def test_training_goes_on_from_a_critic_with_its_head(run):
    first = train(run("first"))
    critic = small_config(first.path.parent, "")["critic"] | {"model": str(first.path / "critic")}
    second = train(run("second", critic=critic))
    assert first.read("evaluation_after.jsonl") == second.read("evaluation_before.jsonl")


def test_only_the_head_moves_on_a_frozen_trunk(run, tmp_path):
    critic = small_config(tmp_path, "")["critic"]
    frozen = train(run("frozen", critic=critic | {"freeze": "trunk"}))
    trunk = load_file(critic["model"] + "/model.safetensors")
    saved = load_file(frozen.path / "critic" / "model.safetensors")
    assert all(torch.equal(trunk[name], saved[name]) for name in saved)


def test_a_shuffled_control_hands_scores_to_the_wrong_attempts(run):
    from vlreward.critics.trainer import Trainer

    trainer = Trainer.__new__(Trainer)
    trainer.config = run("control", control="shuffle_scores", batch=16, micro_batch=8)
    trainer.comparisons = trainer.config.data.comparisons()
    moved = [one.scores != next(c.scores for c in trainer.comparisons if c.id == one.id) for one in trainer.batch(0)]
    assert 3 <= sum(moved) <= 13


def test_each_pass_through_the_comparisons_takes_every_one_once(run):
    from vlreward.critics.trainer import Trainer

    trainer = Trainer.__new__(Trainer)
    trainer.config = run("order", batch=6, micro_batch=None)
    trainer.comparisons = trainer.config.data.comparisons()
    ids = [one.id for step in range(4) for one in trainer.batch(step)]
    assert len(ids) == 24
    assert sorted(ids[:12]) == sorted(ids[12:])
    assert ids[:12] != ids[12:]


@pytest.mark.parametrize(
    ("kind", "at", "share"), [("constant", 9, 1.0), ("linear", 6, 0.5), ("cosine", 6, 0.5), ("cosine", 0, 0.5), ("linear", 2, 1.0)]
)
def test_the_learning_rate_rises_and_falls(kind, at, share):
    assert schedule(Optim(lr=1.0, steps=10, warmup=2, schedule=kind), at) == pytest.approx(share)


MISTAKES = {
    "unknown head": ({"critic": {"model": "assets/tiny-vlm", "head": {"kind": "scaler"}}}, "Did you mean 'scalar'?"),
    "unknown loss": ({"losses": [{"kind": "bradley"}]}, "Did you mean 'bradley_terry'?"),
    "loss without its head": ({"losses": [{"kind": "bradley_terry", "of": "aspects"}]}, "losses.0.of: is 'aspects', but the head"),
    "missing file": ({"data": {"path": "nowhere.jsonl"}}, "data.path: there is no file 'nowhere.jsonl'"),
    "missing model": ({"critic": {"model": "nowhere"}}, "critic.model: is 'nowhere', neither a folder nor in the Hugging Face cache"),
    "odd micro-batch": ({"micro_batch": 3}, "micro_batch: is 3, expected a divisor of batch = 4"),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_a_mistake_is_one_line_and_exit_code_two(run, tmp_path, capsys, mistake):
    blocks, said = MISTAKES[mistake]
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(small_config(tmp_path, "wrong") | blocks))
    assert main(["train-critic", str(tmp_path / "wrong.yaml")]) == 2
    err = capsys.readouterr().err.strip()
    assert said in err
    assert "\n" not in err
    assert "wrong.yaml" in err
    assert not (tmp_path / "wrong").exists()


def test_another_configuration_is_refused_on_resume(run):
    train(run())
    with pytest.raises(ConfigError, match="another configuration"):
        train(run(batch=2, micro_batch=1), resume=True)
