"""A judge that hangs costs the rollouts it was asked about, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event

import pytest

from vlreward.rewards.base import Reward
from vlreward.rewards.composite import Composite, Term
from vlreward.rewards.judges import Judges


@dataclass(kw_only=True)
class Hangs(Reward):
    """Length of the text; waits to be let go where it begins with 'wait'."""

    kind = "hangs"
    needs = ("text",)
    bounds = (0.0, 100.0)

    def __post_init__(self):
        self.go = Event()

    def one(self, rollout):
        if rollout.words.startswith("wait"):
            self.go.wait(30)
        return len(rollout.words)


@pytest.fixture
def hangs():
    reward = Hangs()
    yield reward
    reward.go.set()


def asked(judges: Judges, reward: Reward, rollouts: list):
    return judges.begin(Composite([Term(name="hangs", weight=1.0, reward=reward)]), rollouts, "cpu")


def test_a_batch_that_takes_too_long_is_broken_and_so_are_later_ones_while_it_hangs(hangs, rollout):
    judges = Judges(seconds=0.1, all_apart=True)
    tables = [asked(judges, hangs, [rollout(text), rollout("abc")]) for text in ("a", "wait", "bb")]
    assert tables[0]().scores[:, 0].tolist() == [1, 3]
    for table in (tables[1](), tables[2](), asked(judges, hangs, [rollout("b"), rollout("c")])()):
        assert table.broken.all()
        assert table.total.isnan().all()
        assert table.errors(0) == ["hangs: did not answer within 0.1 s"]


def test_a_judge_that_came_back_is_asked_again(hangs, rollout):
    judges = Judges(seconds=0.1, all_apart=True)
    assert asked(judges, hangs, [rollout("wait")])().broken.all()
    hangs.go.set()
    judges.last[0][1].thread.join(10)
    assert asked(judges, hangs, [rollout("abcd")])().scores.tolist() == [[4]]


def test_no_more_threads_are_started_than_can_judge(hangs, rollout):
    judges = Judges(seconds=0.05, all_apart=True)
    assert asked(judges, hangs, [rollout("wait")])().broken.all()
    stuck = judges.last[0][1].thread
    for _ in range(5):
        assert asked(judges, hangs, [rollout("a")])().broken.all()
        assert judges.last[0][1].thread is stuck


def test_without_a_limit_an_answer_is_waited_for(hangs, rollout):
    table = asked(Judges(all_apart=True), hangs, [rollout("wait")])
    hangs.go.set()
    assert table().scores.tolist() == [[4]]
