"""Several processes on the CPU train the critic that one would: the same gradients, the same steps, one folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from critics_config import small_config
from processes import in_two_processes, launch
from safetensors.torch import load_file

from vlreward.config import load
from vlreward.critics import train as training
from vlreward.critics.config import TrainCritic
from vlreward.critics.train import train
from vlreward.errors import ConfigError
from vlreward.run import RunFolder
from vlreward.run.launch import Launch

CASES = ("ties", "dropout", "latent_pairs", "length_free", "experts", "words", "duels", "listwise", "steps")
ALIKE = ("loss/bradley_terry", "loss/latent_pairs", "pair/accuracy", "pair/margin", "grad_norm", "lr")


@pytest.fixture(scope="module")
def apart() -> dict[str, float]:
    """Of each case in critic_gradients.py, how far the gradients of two processes lie from those of one."""
    done = launch([str(Path(__file__).parent.parent / "shared" / "critic_gradients.py")], {})
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_gradient_of_one(apart, case):
    """Where pairs, ties, readings and pictures are more in one part than in the other, and losses compare rollouts of both."""
    assert apart[case] < 1e-4


def test_every_case_of_the_program_is_looked_at(apart):
    assert set(apart) == set(CASES)


def small(tmp_path: Path, **critic) -> TrainCritic:
    """Five steps of two micro-batches with dropout, noise, and evaluation in batches of which one process gets more."""
    tree = small_config(tmp_path, "one")
    tree["critic"] |= {"head": {"kind": "scalar", "layers": 2, "dropout": 0.1}} | critic
    tree["eval"]["batch"] = 2
    tree["losses"] = [{"kind": "bradley_terry"}, {"kind": "latent_pairs", "warmup": 2, "weight": 0.5}]
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(tree))
    return load(tmp_path / "one.yaml", [], TrainCritic)[0]


def trained(folder: RunFolder) -> dict[str, torch.Tensor]:
    return torch.load(folder.path / "checkpoints" / "step-000005" / "state.pt", weights_only=True)["weights"]


def same(one: RunFolder, two: RunFolder) -> None:
    """Scores to the bit before the first step; figures and weights far closer than the weights moved."""
    assert one.read("evaluation_before.jsonl") == two.read("evaluation_before.jsonl")
    assert [row["id"] for row in one.read("evaluation_after.jsonl")] == [row["id"] for row in two.read("evaluation_after.jsonl")]
    rows = [folder.read("metrics.jsonl") for folder in (one, two)]
    assert [row["step"] for row in rows[1]] == [1, 2, 3, 4, 5]
    for a, b in zip(*rows, strict=True):
        for name in ALIKE:
            assert a[name] == pytest.approx(b[name], rel=2e-3, abs=2e-5), name
    first, second = trained(one), trained(two)
    assert first.keys() == second.keys()
    assert max(float((first[name] - second[name]).abs().max()) for name in first if movable(name)) < 1e-4, "of 5e-3"
    assert len(one.read("rollouts.jsonl")) == len(two.read("rollouts.jsonl")) > 0
    saved = [load_file(folder.path / "critic" / "head.safetensors") for folder in (one, two)]
    assert all(torch.allclose(saved[0][name], saved[1][name], atol=1e-4) for name in saved[0])


def movable(name: str) -> bool:
    """A bias of keys has no gradient but rounding errors, of which Adam makes steps."""
    return not name.endswith(("k_proj.bias", "qkv.bias"))


def forget_the_end(folder: RunFolder) -> None:
    """Take a finished run back to its first checkpoint."""
    shutil.rmtree(folder.path / "checkpoints" / "step-000005")
    shutil.rmtree(folder.path / "critic")


def test_two_processes_take_the_steps_of_one_and_write_one_folder_with_which_one_goes_on(tmp_path):
    config = small(tmp_path)
    one = train(config)
    two, done = in_two_processes("train-critic", config, tmp_path)
    same(one, two)
    assert done.stderr.count("train: 5 to do") == done.stdout.count("report: ") == 1, "only the first process speaks"
    forget_the_end(two)
    train(load(tmp_path / "two.yaml", ["run.name=two"], TrainCritic)[0], resume=True)
    same(one, two)


@pytest.mark.slow
def test_two_processes_go_on_where_one_stopped_with_a_lora_too(tmp_path):
    config = small(tmp_path, lora=2)
    one = train(config)
    two = RunFolder(tmp_path / "two", config.run)
    shutil.copytree(one.path, two.path)
    forget_the_end(two)
    in_two_processes("train-critic", config, tmp_path, more=["--resume"])
    same(one, two)


@pytest.mark.slow
def test_two_processes_judge_what_is_held_out_as_one_does(tmp_path):
    config = small(tmp_path)
    one = training.evaluate(config)
    in_two_processes("eval", config, tmp_path)
    two = RunFolder(tmp_path / "two-eval", config.run)
    assert one.read("evaluation_after.jsonl") == two.read("evaluation_after.jsonl")
    figures = [json.loads((folder.path / "summary.json").read_text())["critic"] for folder in (one, two)]
    assert figures[0] == figures[1]


def several(monkeypatch, count: int, kind: str = "MULTI_GPU") -> None:
    """Act as the first of so many processes."""

    def start(self, device):
        self.count, self.rank, self.device = count, 0, device

    monkeypatch.setattr(Launch, "__init__", start)
    monkeypatch.setattr(Launch, "kind", kind)


def test_more_processes_than_comparisons_that_are_read_together_are_refused(tmp_path, monkeypatch):
    several(monkeypatch, 3)
    with pytest.raises(ConfigError, match="is 2, the comparisons that all 3 processes read together; expected at least 3") as error:
        train(small(tmp_path))
    assert error.value.key == "micro_batch"


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED"])
def test_a_launch_that_lays_weights_in_pieces_is_refused(tmp_path, monkeypatch, kind):
    several(monkeypatch, 2, kind)
    with pytest.raises(ConfigError, match=f"is {kind}, and train-critic keeps a whole critic in each process"):
        train(small(tmp_path))
    assert not (tmp_path / "one").exists()
