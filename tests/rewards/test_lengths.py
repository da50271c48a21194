import math
import random
from dataclasses import dataclass

import numpy as np
import pytest
from trl.rewards import get_cosine_scaled_reward, get_soft_overlong_punishment

from vlreward.config import part
from vlreward.errors import ConfigError, RewardError
from vlreward.rewards.base import Reward
from vlreward.rewards.lengths import CosineLength, LengthBudget, LengthCap, LengthTarget, SoftOverlong, TextLength
from vlreward.types import Rollout, Sample

NAN = float("nan")


@dataclass(kw_only=True)
class Right(Reward):
    """1 for a text that begins with 'right', nothing for 'none', a broken judge for 'break'."""

    kind = "right"
    needs = ("text",)

    def one(self, rollout):
        if rollout.text == "break":
            raise RewardError("the judge is gone")
        return NAN if rollout.text == "none" else float(rollout.text.startswith("right"))


def rollout(text, tokens=None, id="s", group=0, **target) -> Rollout:
    return Rollout(sample=Sample(id=id, prompt="p", target=target), text=text, num_tokens=tokens, group=group)


def score(reward, text, tokens=None, **target) -> float:
    output = reward.score([rollout(text, tokens, **target)])
    assert output.errors == [None], output.errors
    return output.scores.item()


def test_each_unit_counts_what_it_says():
    text = "zwei kurze Wörter"
    assert score(TextLength(), text, 5) == 5
    assert score(TextLength(unit="words"), text, 5) == 3
    assert score(TextLength(unit="characters"), text) == 17
    assert score(TextLength(unit="words"), "") == 0


@pytest.mark.parametrize(
    "reward", [TextLength(), SoftOverlong(max=9, buffer=3), LengthCap(of=Right(), max=9), CosineLength(correct=Right(), max=9)]
)
def test_tokens_that_nobody_counted_break_the_row_and_say_what_to_do(reward):
    output = reward.score([rollout("right"), rollout("right", 4)])
    assert "unit: words" in (output.errors[0] or "")
    assert output.errors[1] is None
    assert output.scores.isnan().tolist() == [True, False]


def test_a_text_that_is_missing_is_no_matter_of_length():
    assert TextLength().score([rollout(None)]).scores.isnan().all()


def test_soft_overlong_is_dapos_with_a_floor():
    reward = SoftOverlong(max=100, buffer=20)
    assert [score(reward, "", n) for n in (0, 80, 90, 100, 110, 10_000)] == [0, 0, -0.5, -1, -1, -1]
    theirs = get_soft_overlong_punishment(100, 20)([[1] * n for n in range(300)])
    assert np.abs(np.array([score(reward, "", n) for n in range(300)]) - theirs).max() == 0
    with pytest.raises(ConfigError, match="at most max"):
        SoftOverlong(max=10, buffer=11)


def test_beyond_the_cap_nothing_is_earned_and_nobody_is_asked():
    asked = []

    class Watched(Right):
        def one(self, rollout):
            asked.append(rollout.text)
            return super().one(rollout)

    reward = LengthCap(of=Watched(), max=5)
    output = reward.score([rollout("right", 5), rollout("right but long", 6), rollout("wrong", 1), rollout("break", 2), rollout("none", 2)])
    assert asked == ["right", "wrong", "break", "none"]
    assert output.scores.nan_to_num(nan=-9).tolist() == [1, 0, 0, -9, -9]
    assert output.errors[3] == "the judge is gone"
    assert output.errors[4] is None
    assert "6 tokens, more than 5" in output.notes[1]


def test_the_cosine_runs_between_its_values_and_does_not_come_back_after_its_end():
    reward = CosineLength(correct=Right(), max=100)
    assert score(reward, "right", 0) == 1
    assert score(reward, "right", 50) == pytest.approx(0.75)
    assert score(reward, "right", 100) == score(reward, "right", 200) == pytest.approx(0.5)
    assert score(reward, "wrong", 0) == -1
    assert score(reward, "wrong", 100) == score(reward, "wrong", 200) == pytest.approx(-0.5)


def test_the_cosine_is_trls_at_every_length(monkeypatch):
    reward, lengths = CosineLength(correct=Right(), max=100), list(range(0, 260, 3))
    for text in ("right", "wrong"):
        monkeypatch.setattr("trl.rewards.accuracy_rewards.accuracy_reward", lambda texts, _: [text == "right" for text in texts])
        theirs = get_cosine_scaled_reward(max_len=100)([text] * len(lengths), [""] * len(lengths), [[1] * n for n in lengths])
        assert np.abs(np.array([score(reward, text, n) for n in lengths]) - np.array(theirs)).max() < 1e-15


def test_a_right_answer_earns_more_than_a_wrong_one_at_any_length_by_default():
    reward = CosineLength(correct=Right(), max=100)
    assert min(score(reward, "right", n) for n in range(0, 300, 7)) > max(score(reward, "wrong", n) for n in range(0, 300, 7))


def test_the_exact_target_costs_to_either_side_and_grows_with_the_error():
    reward = LengthTarget(correct=Right(), slope=0.01)
    assert score(reward, "right", 70, length=70) == 1
    assert score(reward, "right", 50, length=70) == score(reward, "right", 90, length=70) == pytest.approx(0.8)
    assert score(reward, "wrong", 90, length=70) == pytest.approx(-0.2)
    far = [score(reward, "right", n, length=70) for n in range(70, 1000, 50)]
    assert far == sorted(far, reverse=True)


def test_the_budget_pays_right_answers_only_and_in_zero_to_one():
    reward = LengthBudget(correct=Right(), slope=0.01)
    assert [score(reward, "right", n, length=70) for n in (0, 20, 50, 70, 90, 120, 500)] == pytest.approx([1, 1, 0.7, 0.5, 0.3, 0, 0])
    assert [score(reward, "wrong", n, length=70) for n in (0, 70, 500)] == [0, 0, 0]


@pytest.mark.parametrize("length", [0, -3, "70", [70], NAN])
def test_a_broken_target_length_costs_its_own_row(length):
    output = LengthTarget(correct=Right()).score([rollout("right", 5, length=length), rollout("right", 5, length=5)])
    assert "target.length" in (output.errors[0] or "")
    assert output.scores.nan_to_num(nan=-9).tolist() == [-9, 1]


def test_what_the_judge_finds_inapplicable_or_breaks_on_stays_so():
    output = CosineLength(correct=Right(), max=10).score([rollout("none", 3), rollout("break", 3), rollout("none")])
    assert output.scores.isnan().all()
    assert output.errors == [None, "the judge is gone", None]


def test_parts_and_note_tell_the_length_and_whether_it_was_right():
    output = CosineLength(correct=Right(), max=10, unit="words").score([rollout("right as rain")])
    assert output.parts["length"].tolist() == [3]
    assert output.parts["right"].tolist() == [1]
    assert output.notes == ["right, length 3"]


def test_the_bar_for_right_can_be_lowered_for_graded_judges():
    @dataclass(kw_only=True)
    class Half(Reward):
        kind = "half"

        def one(self, rollout):
            return 0.5

    assert score(CosineLength(correct=Half(), max=10, at_least=0.5), "", 0) == 1
    assert score(CosineLength(correct=Half(), max=10), "", 0) == -1


def test_random_lengths_and_texts_stay_in_bounds():
    rng = random.Random(0)
    rewards = [
        CosineLength(correct=Right(), max=50),
        LengthTarget(correct=Right()),
        LengthBudget(correct=Right(), slope=0.1),
        SoftOverlong(max=40, buffer=40),
        LengthCap(of=Right(), max=20),
        TextLength(),
    ]
    rows = []
    for _ in range(2000):
        text = rng.choice(["right", "wrong", "", "rightright", "\x00", "right " * rng.randrange(99), "\U0001f600" * 3])
        rows.append(rollout(text, rng.choice([0, 1, 49, 50, 51, 10**9, rng.randrange(200)]), length=rng.choice([1, 50, 1e-3, 1e12])))
    for reward in rewards:
        output = reward.score(rows)
        assert not output.broken.any()
        assert not output.scores.isnan().any()


def test_a_term_reads_from_a_configuration():
    reward = part("rewards", {"kind": "length_budget", "correct": "exact_match", "slope": 0.01, "unit": "words"})
    assert score(reward, "<answer>a b</answer>", length=2, answer="a b") == pytest.approx(0.5)
    with pytest.raises(ConfigError, match="expected at least 1"):
        part("rewards", {"kind": "cosine_length", "correct": "exact_match", "max": 0})


def test_bounds_follow_the_values():
    assert CosineLength(correct=Right(), max=1, right=(2.0, 1.0), wrong=(0.0, 0.0)).bounds == (0, 2)
    assert LengthTarget(correct=Right()).bounds == (-math.inf, 1)
