import random

import pytest

from vlreward.rewards.answers import ExactMatch
from vlreward.rewards.thinking import NoThinkingBonus, ThinkingMode, mode
from vlreward.types import Rollout, Sample

SLOW = "<think>two and one</think> <answer>3</answer>"
FAST = "<answer>3</answer>"


def score(reward, text, tokens=5, **target) -> float:
    output = reward.score([Rollout(sample=Sample(id="s", prompt="p", target=target), text=text, num_tokens=tokens)])
    assert output.errors == [None], output.errors
    return output.scores.item()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (SLOW, "slow"),
        ("two and one</think> 3", "slow"),
        (FAST, "fast"),
        ("<think>\n</think>3", "fast"),
        ("</think>3", "fast"),
        ("", "fast"),
        ("<think>on and on", ""),
        ("<think>" * 3, ""),
    ],
)
def test_the_mode_is_read_off_the_tags(text, wanted):
    assert mode(text) == wanted


@pytest.mark.parametrize(
    ("text", "slow", "fast"), [(SLOW, 1, 0), (FAST, 0, 1), ("<think></think>3", 0, 1), ("<think>never closed", 0, 0), ("", 0, 1)]
)
def test_an_answer_in_the_wanted_mode_scores_one(text, slow, fast):
    assert score(ThinkingMode(), text, thinking="slow") == slow
    assert score(ThinkingMode(), text, thinking="fast") == fast


def test_prefixes_can_stand_for_tags_and_both_at_once_count_as_neither():
    reward = ThinkingMode(fast_prefix="Short:", slow_prefix="Long:")
    assert score(reward, " Short: 3", thinking="fast") == 1
    assert score(reward, "Long: well, 3", thinking="fast") == 0
    assert score(reward, "3", thinking="fast") == 0
    same = ThinkingMode(fast_prefix="S", slow_prefix="Sl")
    assert score(same, "Sl...", thinking="slow") == 0


def test_a_wrong_label_is_broken_data_and_a_missing_one_does_not_apply():
    rows = [Rollout(sample=Sample(id="s", prompt="p", target=t), text=FAST) for t in ({"thinking": "deep"}, {}, {"thinking": "fast"})]
    output = ThinkingMode().score(rows)
    assert "expected 'slow' or 'fast'" in (output.errors[0] or "")
    assert output.errors[1] is None
    assert output.scores.isnan().tolist() == [True, True, False]


def test_the_bonus_for_not_thinking_goes_to_short_answers_only():
    reward = NoThinkingBonus(correct=ExactMatch(), max=10)
    assert score(reward, FAST, 10, answer="3") == pytest.approx(1.05)
    assert score(reward, FAST, 11, answer="3") == 1, "thinking without the tags"
    assert score(reward, SLOW, 10, answer="3") == 1
    assert score(reward, FAST, 10, answer="4") == pytest.approx(0.05)
    assert score(reward, "<think>never closed", 3, answer="3") == 0


def test_being_right_is_worth_more_than_the_bonus():
    reward = NoThinkingBonus(correct=ExactMatch(), max=10)
    assert score(reward, SLOW, 90, answer="3") > score(reward, FAST, 1, answer="4")


def test_random_tag_soup_stays_in_bounds():
    rng = random.Random(0)
    pieces = ["<think>", "</think>", "<answer>", "</answer>", "3", " ", "\n", "x" * 50, "<thi"]
    sample = Sample(id="s", prompt="p", target={"answer": "3", "thinking": "slow"})
    rows = [
        Rollout(sample=sample, text="".join(rng.choices(pieces, k=rng.randrange(9))), num_tokens=rng.randrange(40)) for _ in range(3000)
    ]
    for reward in (ThinkingMode(), NoThinkingBonus(correct=ExactMatch(), max=10)):
        output = reward.score(rows)
        assert not output.broken.any()
        assert not output.scores.isnan().any()
