"""A reward model that learns outcomes along with the policy."""

from __future__ import annotations

import os
import subprocess
import sys
from copy import deepcopy

import pytest
import torch
import yaml
from killed import killed, same_policy

from vlreward.config import resolved
from vlreward.errors import ConfigError
from vlreward.run import RunFolder, quiet
from vlreward.vlm.policy import read
from vlreward.vlm.train import train
from vlreward.vlm.trainer import VLGRPOTrainer

PRIME = {
    "advantage": {"kind": "implicit_process"},
    "implicit": {"outcome": "box_iou", "lr": 1e-3},
    "group": {"size": 4, "prompts": 2},
}
REWARD = """
from dataclasses import dataclass
import torch
from vlreward.rewards.base import Reward
from vlreward.types import RewardOutput

@dataclass(kw_only=True)
class ByMember(Reward):
    \"\"\"A number that follows from a rollout's group and its place in it.\"\"\"
    needs = ("text",)

    def batch(self, rollouts):
        seen, scores = {}, []
        for rollout in rollouts:
            place = seen[rollout.group] = seen.get(rollout.group, -1) + 1
            scores.append((rollout.group * 7 + place * 5) % 11 / 11)
        return RewardOutput(scores=torch.tensor(scores, dtype=torch.float64))
"""


def trainer(config) -> VLGRPOTrainer:
    folder = RunFolder.open(config.run, "train-vlm", config)
    with quiet("transformers", "datasets"):
        return VLGRPOTrainer(config, folder, *read(config.policy.model), config.data.samples())


def batch(made: VLGRPOTrainer) -> dict:
    with quiet("transformers", "datasets"):
        return made._generate_and_score_completions([{"row": row, "prompt": []} for row in [0] * 4 + [1] * 4])


@pytest.mark.parametrize("lora", [0, 4])
def test_it_starts_without_an_opinion_and_learns_to_tell_right_from_wrong(small, lora):
    made = trainer(small(**PRIME | {"implicit": PRIME["implicit"] | {"lora": lora, "lr": 3e-3}}))
    made.rows, model, outcome_B = [0] * 4 + [1] * 4, made.signals.implicit, torch.tensor([1.0, 0.0] * 4)
    places = [[0, 1, 2, 3], [4, 5, 6, 7]]

    def logps(one, part):
        answers = [torch.tensor([5 + i % 2, 9, 7]) for i in part]
        return made.scoring.of(one, [made.rows[i] for i in part], answers, 3)[0]

    first = model(outcome_B, places, logps)
    assert first.abs().max() == 0, "before its first update the log-ratio is exactly 0"
    assert model.figures["implicit/loss"] == pytest.approx(0.6931, abs=1e-3)
    for _ in range(9):
        rewards = model(outcome_B, places, logps)
    assert model.figures["implicit/accuracy"] == 1
    assert model.figures["implicit/loss"] < 0.6
    assert rewards[::2].sum(1).min() > 0 > rewards[1::2].sum(1).max()
    now = logps(model.model, [0, 1]).detach()
    with torch.no_grad(), model._before() as first:
        rise = now - logps(first, [0, 1])
    assert rise[0].sum() > 0 > rise[1].sum(), "a right answer has become likelier than it was at first"


def test_its_step_is_the_gradient_of_the_cross_entropy_of_plain_sums(small):
    made = trainer(small(**PRIME))
    batch(made)
    model = made.signals.implicit
    copy = deepcopy(dict(model.trained))
    grads = {}
    model._learn = lambda: grads.update({name: weights.grad.clone() for name, weights in model.trained.items()})
    outcome_B = torch.tensor([1.0, 0.25, float("nan"), 0.0, 1.0, 0.0, 1.0, 0.5])

    def logps(one, part):
        answers = [torch.tensor(made.written[i]) for i in part]
        return made.scoring.of(one, [made.rows[i] for i in part], answers, made.signals._width)[0]

    with torch.no_grad():
        model.trained["lm_head.weight" if "lm_head.weight" in model.trained else next(iter(copy))].add_(0.01)
    model.model.zero_grad()
    model(outcome_B, [[0, 1, 2], [3, 4, 5, 6, 7]], logps)
    model.model.zero_grad()
    with torch.no_grad():
        before = logps(model.first, [*range(8)])
    value = model.block.beta * (logps(model.model, [*range(8)]) - before).sum(1)
    known = ~outcome_B.isnan()
    chance, label = value[known].sigmoid(), outcome_B[known]
    loss = -(label * chance.log() + (1 - label) * (1 - chance).log()).mean()
    loss.backward()
    assert model.figures["implicit/loss"] == pytest.approx(loss.item(), rel=1e-4)
    for name, weights in model.trained.items():
        assert torch.allclose(grads[name], weights.grad, atol=1e-5), name


def test_token_rewards_reach_the_loss_and_broken_outcomes_teach_it_nothing(small):
    made = trainer(small(**PRIME))
    batch(made)
    out = batch(made)
    assert out["advantages"].shape == out["completion_mask"].shape
    written = out["completion_mask"].bool()
    assert bool((out["advantages"][~written] == 0).all())
    rows = [row[mask].unique() for row, mask in zip(out["advantages"], written, strict=True)]
    assert any(len(row) > 1 for row in rows), "tokens of one rollout differ"
    assert "implicit/loss" in made.figures
    weights = {name: value.clone() for name, value in made.signals.implicit.trained.items()}
    made.signals.implicit(torch.full((8,), float("nan")), [[0, 1]], lambda model, part: next(model.parameters()).sum() * torch.zeros(2, 3))
    assert all(torch.equal(value, weights[name]) for name, value in made.signals.implicit.trained.items())


@pytest.mark.slow
@pytest.mark.parametrize("lora", [0, 4])
def test_a_killed_run_goes_on_with_the_same_reward_model(small, tmp_path, lora):
    implicit = PRIME["implicit"] | {"lora": lora}
    config = small("whole", **PRIME | {"implicit": implicit, "optim": {"lr": 1e-3, "steps": 4, "save_every": 2}})
    whole = train(config)
    resumed = train(killed(config, tmp_path, 3), resume=True)
    assert same_policy(whole, resumed)
    states = [torch.load(folder.path / "checkpoints/step-000004/implicit.pt", weights_only=True) for folder in (whole, resumed)]
    assert states[0]["weights"].keys() == states[1]["weights"].keys()
    assert all(torch.equal(value, states[1]["weights"][name]) for name, value in states[0]["weights"].items())
    assert any("lora_" in name for name in states[0]["weights"]) == (lora > 0)


@pytest.mark.slow
def test_two_processes_teach_it_as_one_does(small, tmp_path):
    """The likeliest answers, so that both write the same; the reward is that of test_processes."""
    (tmp_path / "member.py").write_text(REWARD)
    term = {"kind": f"{tmp_path}/member.py:ByMember", "name": "member"}
    blocks = PRIME | {"rewards": [term], "implicit": {"outcome": "member", "lr": 1e-4}, "group": {"size": 4, "prompts": 4}}
    config = small("one", **blocks, trl={"top_k": 1, "optim": "sgd"}, optim={"lr": 0.01, "steps": 3})
    one = train(config)
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump(resolved(config)))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "vlreward.cli"]
    command = [*launch, "train-vlm", str(file), "run.name=two"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    two = RunFolder(tmp_path / "two", config.run)
    for a, b in zip(one.read("metrics.jsonl"), two.read("metrics.jsonl"), strict=True):
        assert a["implicit/loss"] == pytest.approx(b["implicit/loss"], rel=1e-4)
        assert a["implicit/accuracy"] == b["implicit/accuracy"]
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-2, abs=1e-5)


def test_block_and_advantage_come_together_and_the_outcome_is_a_term_within_bounds(small):
    with pytest.raises(ConfigError, match="add the block `implicit") as caught:
        small(advantage={"kind": "implicit_process"})
    assert caught.value.key == "advantage"
    with pytest.raises(ConfigError, match="the advantage does not read it"):
        small(implicit={"outcome": "box_iou"})
    with pytest.raises(ConfigError, match=r"the terms of `rewards` are box_iou, answer_format"):
        small(**PRIME | {"implicit": {"outcome": "iou"}})
    with pytest.raises(ConfigError, match=r"expected \[0, 1\]"):
        small(**PRIME | {"implicit": {"outcome": "text_length"}, "rewards": [{"kind": "text_length"}]})
