"""What of two answers a preference is about."""

from __future__ import annotations

import math

import pytest
import torch

from vlreward.errors import ConfigError
from vlreward.types import Segment
from vlreward.vlm.preferences.fine import Difference, Labelled, padded
from vlreward.vlm.preferences.pairs import Answer


def test_only_tokens_that_differ_weigh():
    assert Difference().weights([1, 2, 3, 9], [1, 5, 6, 3, 9]) == ([0, 1, 0, 0], [0, 1, 1, 0, 0])


def test_rlhf_v_divides_the_weighted_sum_by_the_weights():
    chosen, rejected = Difference(shared=1, changed=5, mean=True).weights([1, 2, 3], [1, 3])
    assert chosen == pytest.approx([1 / 7, 5 / 7, 1 / 7])
    assert rejected == pytest.approx([1 / 2, 1 / 2])


def test_equal_answers_have_no_weight_at_all():
    assert Difference(mean=True).weights([1, 2], [1, 2]) == ([0, 0], [0, 0])


def answer(*segments: tuple[int, int, float]) -> Answer:
    return Answer(text="abcdef", segments=tuple(Segment(start=start, end=end, reward=reward) for start, end, reward in segments))


PLACES = [(0, 2), (2, 4), (4, 6), (6, 6)]
RATIO = torch.tensor([[0.5, -1.0, 2.0, 9.0], [0.1, 0.2, 0.3, 9.0]])


def test_each_labelled_segment_is_a_case_of_its_own():
    """By hand: a good one over tokens 0 and 1, a bad one over token 2, a neutral one, and a good one in the other answer."""
    answers = [answer((0, 4, 1.0), (4, 6, 0.0)), answer((0, 2, 0.5), (2, 4, 0.9))]
    fine = Labelled(good=0.8, bad=0.2)
    margins = [0.5 - 1.0, -2.0, 0.2]
    wanted = sum(math.log1p(math.exp(-0.3 * margin)) for margin in margins) / 3
    assert float(fine.loss(RATIO, answers, [PLACES, PLACES], 0.3)) == pytest.approx(wanted, abs=1e-6)


def test_gradient_raises_good_segments_lowers_bad_ones_and_leaves_all_else():
    ratio = torch.zeros(1, 4, requires_grad=True)
    loss = Labelled().loss(ratio, [answer((0, 2, 1.0), (2, 4, 0.0))], [PLACES], 1.0)
    assert loss is not None
    loss.backward()
    assert ratio.grad is not None
    assert ratio.grad[0].tolist() == pytest.approx([-0.25, 0.25, 0, 0])


def test_without_a_label_there_is_nothing_to_learn():
    ratio = torch.zeros(1, 4, requires_grad=True)
    loss = Labelled(good=0.8, bad=0.2).loss(ratio, [answer((0, 2, 0.5))], [PLACES], 1.0)
    assert loss is not None
    loss.backward()
    assert ratio.grad is not None and not ratio.grad.any()


def test_bounds_the_wrong_way_round_are_refused():
    with pytest.raises(ConfigError, match="at most `good`"):
        Labelled(good=0.2, bad=0.8)


def test_rows_are_padded_with_zeros():
    assert padded([[1.0], [2.0, 3.0]]).tolist() == [[1, 0], [2, 3]]
