"""Rewards judge what is sampled while more is sampled, and say the same as if they had waited."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event

import pytest
import torch

from vlreward.data.media import Picture
from vlreward.flow.ahead import Ahead
from vlreward.flow.processes import Processes
from vlreward.rewards.base import Reward
from vlreward.rewards.composite import Composite, Term
from vlreward.rewards.judges import Judges
from vlreward.types import RewardOutput, Rollout, Sample


@dataclass(kw_only=True)
class Counts(Reward):
    """Brightness plus how many rollouts were judged in the same call; waits for `go`, and says so by `begun`."""

    kind = "counts"
    needs = ("visual",)
    bounds = (0.0, 100.0)

    def __post_init__(self):
        self.go, self.begun, self.calls = Event(), Event(), []

    def batch(self, rollouts):
        self.begun.set()
        assert self.go.wait(30)
        self.calls.append(len(rollouts))
        return RewardOutput(scores=torch.stack([rollout.visual.tensor.mean().double() for rollout in rollouts]))


@dataclass(kw_only=True)
class Compares(Counts):
    kind = "compares"
    scope = "group"


def pictures(count: int) -> list[Rollout]:
    return [Rollout(sample=Sample(id=str(i), prompt="?"), made=Picture(torch.full((3, 2, 2), i / count))) for i in range(count)]


def ahead(reward: Reward) -> Ahead:
    return Ahead(Composite([Term(name="r", weight=1.0, reward=reward)]), Judges(30, all_apart=True), Processes("cpu"))


@pytest.mark.parametrize(("reward", "calls"), [(Counts(), [2, 2, 2]), (Compares(), [6])], ids=["a rollout at a time", "whole groups"])
def test_micro_batches_are_judged_as_they_come_and_groups_once_they_are_whole(reward, calls):
    rollouts, judged = pictures(6), ahead(reward)
    for first in (0, 2, 4):
        judged.begin(rollouts[first : first + 2])
        if len(calls) > 1:
            assert reward.begun.wait(10), "the first is judged while the next are sampled"
    assert reward.begun.is_set() == (len(calls) > 1)
    reward.go.set()
    table = judged.table(rollouts, rollouts)
    assert table.scores[:, 0].tolist() == pytest.approx([i / 6 for i in range(6)])
    assert reward.calls == calls


def test_rollouts_that_were_not_sampled_are_judged_when_they_are_asked_for():
    reward = Counts()
    reward.go.set()
    judged, rollouts = ahead(reward), pictures(4)
    judged.begin(rollouts)
    others = pictures(2)
    assert judged.table(others, rollouts).scores[:, 0].tolist() == [0.0, 0.5]
    assert len(judged.table(rollouts, rollouts).scores) == 4
