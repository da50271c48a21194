"""Which answers make a pair."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from vlreward.errors import RewardError
from vlreward.rewards.base import Reward
from vlreward.rewards.composite import Composite, Term
from vlreward.types import RewardOutput, Rollout, Sample, Segment
from vlreward.vlm.preferences.pairs import Pair, mine, overview, shuffled


@dataclass(kw_only=True)
class ByFirstWord(Reward):
    """The number that a text begins with; 'broken' breaks the judge, 'none' does not apply. One segment: that word."""

    kind = "by_first_word"
    needs = ("text",)

    def batch(self, rollouts):
        scores, errors = [], []
        for rollout in rollouts:
            word = (rollout.text or "").split()[0]
            scores.append(float("nan") if word in ("broken", "none") else float(word))
            errors.append(str(RewardError("no answer")) if word == "broken" else None)
        segments = [[Segment(start=0, end=3, reward=score)] for score in scores]
        return RewardOutput(scores=torch.tensor(scores, dtype=torch.float64), errors=errors, segments=segments)


SAMPLES = [Sample(id=name, prompt=f"prompt {name}") for name in "abc"]
REWARDS = Composite([Term(name="by_first_word", weight=1.0, reward=ByFirstWord())])


def mined(texts: list[tuple[int, str]], margin: float = 0.0, length_ratio: float | None = None, labels: str | None = None) -> list[Pair]:
    rollouts = [Rollout(sample=SAMPLES[group], text=text, group=group) for group, text in texts]
    return list(mine(rollouts, REWARDS(rollouts), margin, length_ratio, labels))


def test_best_and_worst_of_each_group_make_a_pair():
    pairs = mined([(0, "0.2 x"), (0, "0.9 x"), (0, "0.5 x"), (1, "0.1 y"), (1, "0.4 y")])
    assert [(pair.sample.id, pair.chosen.text, pair.rejected.text) for pair in pairs] == [("a", "0.9 x", "0.2 x"), ("b", "0.4 y", "0.1 y")]
    assert (pairs[0].chosen.score, pairs[0].rejected.score) == (0.9, 0.2)


def test_broken_judges_and_answers_that_nothing_applies_to_never_make_a_pair():
    assert mined([(0, "broken x"), (0, "0.9 x")]) == []
    assert mined([(0, "none x"), (0, "0.9 x")]) == []
    [pair] = mined([(0, "broken x"), (0, "0.9 x"), (0, "none x"), (0, "0.3 x")])
    assert pair.rejected.text == "0.3 x"


@pytest.mark.parametrize(("margin", "count"), [(0.0, 1), (0.3, 1), (0.31, 0)])
def test_a_gap_below_the_margin_makes_no_pair(margin, count):
    assert len(mined([(0, "0.5 x"), (0, "0.2 x")], margin)) == count


def test_equal_totals_and_equal_texts_make_no_pair():
    assert mined([(0, "0.5 x"), (0, "0.5 y")]) == []
    assert mined([(0, "0.5 x"), (0, "0.5 x"), (1, "0.1 z")]) == []


def test_with_length_control_a_smaller_gap_of_like_length_wins():
    texts = [(0, "0.9 " + "x" * 40), (0, "0.1 x"), (0, "0.4 xy")]
    assert mined(texts)[0].chosen.text.startswith("0.9")
    [pair] = mined(texts, length_ratio=1.5)
    assert (pair.chosen.text, pair.rejected.text) == ("0.4 xy", "0.1 x")
    assert mined(texts[:2], length_ratio=1.5) == []


def test_of_equal_gaps_the_one_with_the_least_difference_in_length_counts():
    [pair] = mined([(0, "0.9 " + "x" * 40), (0, "0.1 xy"), (0, "0.9 xyz")])
    assert pair.chosen.text == "0.9 xyz"


def test_a_pair_comes_back_from_its_record_with_its_segments():
    [pair] = mined([(0, "0.2 x"), (0, "0.9 x")], labels="by_first_word")
    assert pair.chosen.segments == (Segment(start=0, end=3, reward=0.9),)
    assert Pair.of(SAMPLES[0], pair.record) == pair
    assert mined([(0, "0.2 x"), (0, "0.9 x")])[0].chosen.segments == ()


def test_shuffled_pairs_are_the_same_pairs_of_which_half_are_turned_round():
    pairs = [pair for group in range(3) for pair in mined([(group, "0.2 x"), (group, "0.9 x")])] * 40
    turned = shuffled(pairs, 7)
    wrong = sum(one.chosen.text == "0.2 x" for one in turned)
    assert 40 < wrong < 80
    assert all({one.chosen.text, one.rejected.text} == {"0.2 x", "0.9 x"} for one in turned)
    assert turned == shuffled(pairs, 7) != shuffled(pairs, 8)


def test_overview_tells_count_gap_and_lengths():
    assert overview(mined([(0, "0.2 x"), (0, "0.9 xyz")])) == pytest.approx(
        {"count": 1, "gap": 0.7, "chosen_characters": 7, "rejected_characters": 5}
    )
