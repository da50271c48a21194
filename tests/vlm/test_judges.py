"""Rewards that wait are judged while the next answers are written, and give the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event, Timer

import pytest
import torch
from safetensors.torch import load_file

from vlreward.errors import ConfigError
from vlreward.rewards.base import Reward
from vlreward.rewards.composite import Composite, Gate, Term
from vlreward.rewards.judges import Judges
from vlreward.run import RunFolder, quiet
from vlreward.vlm.policy import read
from vlreward.vlm.train import train
from vlreward.vlm.trainer import VLGRPOTrainer

LONG = 60.0


@dataclass(kw_only=True)
class Patient(Reward):
    """How many rollouts were judged before, in tens; waits until it is let go, and gives a negative score if nobody ever does."""

    first: str = ""
    """It waits only for texts that start like this."""
    kind = "patient"
    waits = True
    needs = ("text",)
    bounds = (-1.0, 100.0)

    def __post_init__(self):
        self.go, self.ended = Event(), False

    def one(self, rollout):
        if rollout.text.startswith(self.first) and not self.go.wait(LONG):
            return -1.0
        self.memory["seen"] = self.memory.get("seen", 0) + 1
        return self.memory["seen"] / 10

    def stop(self):
        self.ended = True
        self.go.set()


@dataclass(kw_only=True)
class Fails(Reward):
    """Cannot judge at all."""

    kind = "fails"
    waits = True

    def batch(self, rollouts):
        raise NotImplementedError("a mistake in a reward")


@dataclass(kw_only=True)
class Length(Reward):
    """Letters of the text, in hundreds."""

    kind = "length"
    needs = ("text",)

    def one(self, rollout):
        return min(1.0, len(rollout.text) / 100)


def composite(*rewards: Reward) -> Composite:
    return Composite([Term(name=reward.kind, weight=1.0, reward=reward) for reward in rewards])


def test_batches_are_judged_in_their_order_while_the_caller_goes_on(rollout):
    """The second batch would be judged first if it did not wait for its turn."""
    patient = Patient(first="a")
    judges, rewards = Judges(), composite(patient, Length())
    tables = [judges.begin(rewards, [rollout(text) for text in texts], "cpu") for texts in (("a", "aa"), ("bbb",))]
    judges.last[0][1].thread.join(0.2)
    patient.go.set()
    late, early = tables[1](), tables[0]()
    assert early.scores.tolist() == [[0.1, 0.01], [0.2, 0.02]]
    assert late.scores.tolist() == [[0.3, 0.03]]
    assert early.names == ("patient", "length")
    assert torch.equal(early.total, early.scores.sum(1))


def test_a_reward_inside_of_another_makes_it_wait_too(rollout):
    patient = Patient()
    table = Judges().begin(composite(Gate(when=Length(), then=patient, at_least=0.5)), [rollout("a" * 60), rollout("a")], "cpu")
    patient.go.set()
    assert table().scores[:, 0].tolist() == [0.1, 0.0]


def test_what_is_judged_beside_the_batches_waits_for_them_and_is_not_remembered(rollout):
    """As a near miss of the second portion is, while the first is still being judged."""
    patient = Patient(first="a")
    judges, rewards = Judges(), composite(patient)
    table = judges.begin(rewards, [rollout("a"), rollout("aa")], "cpu")
    Timer(0.1, patient.go.set).start()
    assert judges.beside(rewards, lambda: rewards([rollout("b")]).scores.tolist()) == [[0.3]]
    assert table().scores[:, 0].tolist() == [0.1, 0.2]
    assert judges.begin(rewards, [rollout("c")], "cpu")().scores.tolist() == [[0.3]]


def test_what_a_reward_raises_is_raised_where_its_scores_are_asked_for(rollout):
    table = Judges().begin(composite(Fails()), [rollout("a")], "cpu")
    with pytest.raises(NotImplementedError, match="a mistake"):
        table()


def test_an_interrupted_run_lets_go_of_what_waits(small):
    config, patient = small(), Patient()
    config.rewards.terms = composite(patient, Length()).terms
    made = trainer(config)

    def interrupted(*_):
        raise KeyboardInterrupt

    made._calculate_rewards = interrupted
    with quiet("transformers", "datasets"), pytest.raises(KeyboardInterrupt):
        made._generate_and_score_completions([{"row": row, "prompt": []} for row in [0] * 3 + [1] * 3])
    assert patient.ended


def trainer(config) -> VLGRPOTrainer:
    with quiet("transformers", "datasets"):
        return VLGRPOTrainer(config, RunFolder.open(config.run, "train-vlm", config), *read(config.policy.model), config.data.samples())


def test_a_portion_is_judged_while_the_next_is_written(small):
    config, patient = small(group={"size": 3, "prompts": 2, "portions": 2}), Patient()
    config.rewards.terms = composite(patient, Length()).terms
    made, usual, turns = trainer(config), VLGRPOTrainer._generate_single_turn, []

    def written(*args):
        turns.append(len(made.rows))
        out = usual(made, *args)
        if len(turns) == 2:
            patient.go.set()
        return out

    made._generate_single_turn = written
    with quiet("transformers", "datasets"):
        out = made._generate_and_score_completions([{"row": row, "prompt": []} for row in [0] * 3 + [1] * 3])
    assert turns == [3, 3]
    assert out["row"].tolist() == [0] * 3 + [1] * 3
    assert made.table.scores[:, 0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    texts = made.processing_class.batch_decode(out["completion_ids"], skip_special_tokens=True)
    assert [one.text for one in made.rollouts] == texts
    assert [one.group for one in made.rollouts] == [0, 0, 0, 1, 1, 1]


def test_a_run_whose_rewards_wait_has_the_numbers_of_one_whose_rewards_do_not(small, monkeypatch):
    folders = []
    for waits in (False, True):
        monkeypatch.setattr("vlreward.rewards.boxes.BoxIoU.waits", waits)
        folders.append(train(small(f"waits-{waits}", group={"size": 3, "prompts": 2, "portions": 2})))
    first, second = (load_file(folder.path / "policy" / "model.safetensors") for folder in folders)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_portions_that_are_no_whole_prompts_are_refused(small):
    with pytest.raises(ConfigError, match="divisor of the 2 prompts") as caught:
        train(small(group={"size": 3, "prompts": 2, "portions": 3}))
    assert caught.value.key == "group.portions"
