import math
import random
from dataclasses import dataclass

import pytest
import torch

from vlreward.errors import ConfigError
from vlreward.rewards.adaptive_lengths import LengthBonus, LengthHistory, ShortestCorrect, SolveRateLength
from vlreward.rewards.base import Reward
from vlreward.rewards.composite import Composite, Term
from vlreward.rewards.shaping import Clipped
from vlreward.types import Rollout, Sample


@dataclass(kw_only=True)
class Right(Reward):
    """1 for 'right', 0 for 'wrong', nothing for 'none'."""

    kind = "right"

    def one(self, rollout):
        return float("nan") if rollout.text == "none" else float(rollout.text == "right")


def rows(*attempts, group=0, id="s") -> list[Rollout]:
    """Rollouts from 'right 30', 'wrong 5' ...: what was said, and in how many tokens."""
    pairs = [attempt.split() for attempt in attempts]
    return [Rollout(sample=Sample(id=id, prompt="p"), text=text, num_tokens=int(n), group=group) for text, n in pairs]


def scores(reward, *attempts):
    return reward.score(rows(*attempts)).scores.tolist()


def test_length_costs_in_proportion_to_how_often_the_group_is_right():
    reward = SolveRateLength(correct=Right(), max=100, weight=0.4)
    assert scores(reward, "right 50", "wrong 100") == pytest.approx([1 - 0.4 * 0.5 * 0.5, -0.4 * 0.5])
    assert scores(reward, "right 50", "right 100") == pytest.approx([0.8, 0.6])
    assert scores(reward, "wrong 50", "wrong 100") == pytest.approx([-0.1, -0.2]), "at least 1/G"


def test_within_the_cap_being_right_always_beats_being_wrong():
    reward = SolveRateLength(correct=Right(), max=100)
    assert scores(reward, "right 100", "wrong 0")[0] > scores(reward, "wrong 0", "wrong 0")[0]


def test_the_bonus_goes_to_right_answers_within_the_target():
    reward = LengthBonus(correct=Right(), targets=(40,))
    assert scores(reward, "right 40", "right 41", "wrong 3") == [1.5, 1, 0]
    assert reward.bounds == (0, 1.5)


@pytest.mark.parametrize(("num_right", "target"), [(6, 10), (4, 10), (3, 20), (2, 20), (1, 30)])
def test_three_targets_go_by_the_share_of_right_answers(num_right, target):
    reward = LengthBonus(correct=Right(), targets=(10, 20, 30))
    for length in (target, target + 1):
        got = scores(reward, *[f"right {length}"] * num_right, *["wrong 5"] * (6 - num_right))
        assert got[0] == (1.5 if length == target else 1.0)


def test_two_targets_are_refused():
    with pytest.raises(ConfigError, match="expected 1, or 3"):
        LengthBonus(correct=Right(), targets=(1, 2))


def test_the_shortest_right_answer_is_everyones_target():
    reward = ShortestCorrect(correct=Right(), slope=0.01)
    assert scores(reward, "right 50", "right 30", "wrong 10") == pytest.approx([1.8, 2.0, -0.2])
    assert scores(reward, "wrong 10", "wrong 30") == pytest.approx([-0.1, -0.1]), "without a right one, the mean length"


@pytest.mark.parametrize(
    "reward", [SolveRateLength(correct=Right(), max=9), LengthBonus(correct=Right(), targets=(9,)), ShortestCorrect(correct=Right())]
)
def test_groups_are_weighed_apart_and_inapplicable_rows_take_no_part(reward):
    first, second = rows("right 9", "wrong 4", group=1), rows("wrong 7", "right 3", "wrong 2", group=2)
    mixed = [first[0], second[0], *rows("none 1", group=1), second[1], first[1], second[2]]
    together = reward.score(mixed).scores
    assert together[2].isnan()
    assert torch.equal(together[[0, 4]], reward.score(first).scores)
    assert torch.equal(together[[1, 3, 5]], reward.score(second).scores)


def plain_history(record: float, length: float, right: bool) -> float:
    """HAPO's cosine as its paper states it, in plain numbers."""
    wave = math.cos(length / record * math.pi / 2) if length < 2 * record else -1.0
    return max(-0.7, wave) if right else min(0.0, wave)


def test_history_pays_for_beating_the_record_and_follows_the_paper():
    reward = LengthHistory(correct=Right())
    assert scores(reward, "right 100", "wrong 5", "right 80") == [1, 0, 1], "no record yet"
    assert reward.memory == {"s": 80}
    got = scores(reward, "right 40", "right 80", "right 120", "right 500", "wrong 40", "wrong 120", "wrong 500")
    lengths, right = (40, 80, 120, 500, 40, 120, 500), (1, 1, 1, 1, 0, 0, 0)
    assert got == pytest.approx([r + plain_history(80, n, bool(r)) for n, r in zip(lengths, right, strict=True)], abs=1e-12)
    assert got[0] == pytest.approx(1 + math.cos(math.pi / 4))
    assert got[4] == 0, "short and wrong gains nothing"
    assert reward.memory == {"s": 40}


def test_order_inside_of_a_batch_does_not_matter_to_history():
    ahead, behind = LengthHistory(correct=Right()), LengthHistory(correct=Right())
    for reward in (ahead, behind):
        scores(reward, "right 90")
    attempts = ["right 30", "right 60", "wrong 10"]
    assert scores(ahead, *attempts) == scores(behind, *attempts[::-1])[::-1]


def test_each_sample_has_a_record_of_its_own_and_an_empty_answer_sets_none():
    reward = LengthHistory(correct=Right())
    reward.score([*rows("right 20", id="a"), *rows("right 50", id="b"), *rows("right 0", id="c"), *rows("wrong 1", id="d")])
    assert reward.memory == {"a": 20, "b": 50}


def test_a_checkpoint_carries_the_record_even_from_inside_of_a_combinator():
    def composite():
        inner = LengthHistory(correct=Right())
        return Composite([Term(name="r", weight=1.0, reward=Right()), Term(name="h", weight=1.0, reward=Clipped(of=inner, high=9.0))])

    trained, resumed = composite(), composite()
    trained(rows("right 70"))
    resumed(rows("right 10"))
    resumed.recall(trained.memory)
    assert resumed.memory == trained.memory == [{}, {}, {"s": 70}, {}]
    assert torch.equal(resumed(rows("right 35")).scores, trained(rows("right 35")).scores)


def test_random_attempts_stay_in_bounds_through_many_batches():
    rng = random.Random(0)
    rewards = [
        SolveRateLength(correct=Right(), max=50),
        LengthBonus(correct=Right(), targets=(10, 20, 40)),
        ShortestCorrect(correct=Right()),
        LengthHistory(correct=Right(), weight=0.5),
    ]
    for _ in range(60):
        batch = [
            row
            for group in range(6)
            for row in rows(
                *(f"{rng.choice(['right', 'wrong'])} {rng.choice([0, 1, rng.randrange(99), 10**7])}" for _ in range(5)),
                group=group,
                id=str(rng.randrange(9)),
            )
        ]
        for reward in rewards:
            output = reward.score(batch)
            assert not output.broken.any(), output.errors
            assert not output.scores.isnan().any()
