import math
import re
from dataclasses import dataclass

import pytest
import torch

from vlreward.errors import ConfigError, RewardError
from vlreward.registry import parts
from vlreward.rewards.base import Reward
from vlreward.types import RewardOutput


@dataclass(kw_only=True)
class Word(Reward):
    """1 for 'good'; breaks on 'crash', leaves the bounds on 'wild'."""

    kind = "word"
    needs = ("text", "target.answer")

    def one(self, rollout):
        if rollout.text == "crash":
            raise RewardError("the judge is out")
        return {"good": 1.0, "wild": 7.0, "infinite": math.inf}.get(rollout.text or "", 0.0)


def test_a_missing_need_is_nan_and_the_reward_is_not_asked(rollout):
    output = Word().score([rollout("good", answer="x"), rollout(None, answer="x"), rollout("crash")])
    assert output.scores[0] == 1.0
    assert output.scores[1:].isnan().all()
    assert output.errors == [None, None, None]


def test_a_broken_judge_costs_one_row_and_says_why(rollout):
    output = Word().score([rollout("crash", answer="x"), rollout("good", answer="x")])
    assert output.errors == ["the judge is out", None]
    assert output.scores[0].isnan()
    assert output.scores[1] == 1.0
    assert output.broken.tolist() == [True, False]


@pytest.mark.parametrize("text", ["wild", "infinite"])
def test_a_score_outside_of_the_bounds_counts_as_broken(rollout, text):
    output = Word().score([rollout(text, answer="x")])
    assert "outside of its bounds [0, 1]" in (output.errors[0] or "")
    assert output.scores[0].isnan()


def test_a_batch_that_breaks_as_a_whole_breaks_every_row_of_it(rollout):
    @dataclass(kw_only=True)
    class Dead(Reward):
        kind = "dead"
        needs = ("text",)

        def batch(self, rollouts):
            raise ConnectionError("no route")

    output = Dead().score([rollout("a"), rollout(None), rollout("b")])
    assert output.errors == ["ConnectionError: no route", None, "ConnectionError: no route"]


@pytest.mark.parametrize(
    ("given", "message"),
    [([0.5], "gave a list, expected a RewardOutput"), (RewardOutput(scores=torch.zeros(3)), r"gave \(3,\) scores .* for 1 rollouts")],
)
def test_a_batch_of_the_wrong_shape_counts_as_broken(rollout, given, message):
    @dataclass(kw_only=True)
    class Odd(Reward):
        kind = "odd"

        def batch(self, rollouts):
            return given

    assert re.search(message, Odd().score([rollout("a")]).errors[0] or "")


@pytest.mark.parametrize("given", ["good", None, (0.5, "a note", "another"), math.inf, -math.inf])
def test_a_score_that_is_no_finite_number_breaks_its_row_alone(rollout, given):
    @dataclass(kw_only=True)
    class Odd(Reward):
        kind = "odd"
        bounds = (-math.inf, math.inf)

        def one(self, rollout):
            return given if rollout.text == "a" else 0.25

    output = Odd().score([rollout("a"), rollout("b")])
    assert output.broken.tolist() == [True, False]
    assert output.scores[1] == 0.25


def test_a_class_that_is_no_whole_reward_is_refused_before_it_judges(rollout):
    @dataclass(kw_only=True)
    class Nothing(Reward):
        kind = "nothing"

    @dataclass(kw_only=True)
    class Needy(Word):
        needs = ("picture",)

    with pytest.raises(ConfigError, match="Nothing defines neither `one` nor `batch`"):
        Nothing().score([rollout("a")])
    with pytest.raises(ConfigError, match="Needy needs 'picture', expected 'text'"):
        Needy().score([rollout("a")])


def test_what_a_users_reward_raises_while_it_is_loaded_is_told_in_a_line(rollout):
    @dataclass(kw_only=True)
    class Mine(Word):
        origin = "mine.py:Mine"

        def load(self, device):
            raise OSError("no such model")

    with pytest.raises(ConfigError, match="Mine cannot be loaded: OSError: no such model"):
        Mine().score([rollout("a")])


def test_models_are_loaded_once(rollout):
    loads = []

    @dataclass(kw_only=True)
    class Heavy(Reward):
        kind = "heavy"

        def load(self, device):
            loads.append(device)

        def batch(self, rollouts):
            return RewardOutput(scores=torch.zeros(len(rollouts)))

    reward = Heavy()
    reward.score([rollout("a")])
    reward.score([rollout("b")])
    assert loads == ["cpu"]


@pytest.mark.parametrize("name", list(parts("rewards")))
def test_every_shipped_reward_names_its_source_its_range_and_its_known_cheats(name):
    cls = parts("rewards")[name]
    about = cls.__doc__ or ""
    assert "Known cheats:" in about, f"{name} names no cheats"
    assert re.search(r"In [\[(]|1 if|bounds", about), f"{name} gives no range in its docstring"
    if name not in ("product", "minimum"):
        assert "Source:" in about, f"{name} names no source"
