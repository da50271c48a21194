import math
import random

import pytest
import torch
from tables import NAN, groups, table

from vlreward.advantages.group import GroupAdvantage
from vlreward.advantages.lens import ConfidenceWeighted, calibrated
from vlreward.config import part
from vlreward.errors import ConfigError


def published(right: list[bool], likelihood: list[float], alpha: float) -> list[float]:
    """Section 5.1 of the paper in plain numbers, with the unbiased deviation."""
    count, most = len(right), 2 * max(likelihood)
    if any(right):
        inverse = sum(1 / p for ok, p in zip(right, likelihood, strict=True) if ok) / count
        most = max(most, 1 / inverse)
    reward = [1.0 if ok else -p / (most - p) / count for ok, p in zip(right, likelihood, strict=True)]
    mean = sum(reward) / count
    centred = [r - mean for r in reward]
    if not any(right):
        return [alpha * c for c in centred]
    return [c / math.sqrt(sum(d * d for d in centred) / (count - 1)) for c in centred]


def test_a_worked_group_without_a_right_answer():
    got = ConfidenceWeighted(alpha=0.25)(table([1.0, 0.0], a=[0.0, 0.0], text_likelihood=[0.8, 0.4]), groups(0, 0))
    # D = 1.6, so the rewards are -0.8/0.8/2 = -1/2 and -0.4/1.2/2 = -1/6: a quarter of their differences from -1/3
    assert got.tolist() == pytest.approx([-1 / 24, 1 / 24])


def test_wrong_answers_are_worth_between_minus_one_over_the_group_and_zero_and_the_surer_the_less():
    right, p = torch.tensor([False, True, False, False]), torch.tensor([0.9, 0.05, 0.5, 0.1], dtype=torch.float64)
    reward = calibrated(right, p)
    assert reward[1] == 1
    assert -0.25 <= reward[0] < reward[2] < reward[3] < 0


@pytest.mark.parametrize("seed", range(30))
def test_it_is_the_papers_formula_in_every_group(seed):
    rng = random.Random(seed)
    ids = [rng.randrange(4) for _ in range(24)]
    right = [rng.random() < (0.0, 0.3, 0.7, 1.0)[g] for g in ids]
    p = [rng.uniform(0.01, 1.0) for _ in ids]
    got = ConfidenceWeighted(alpha=0.3, eps=1e-12, clip=1e9)(table([1.0, 0.0], a=list(map(float, right)), text_likelihood=p), groups(*ids))
    for g in set(ids):
        rows = [i for i in range(24) if ids[i] == g]
        if len(rows) > 1 and not all(right[i] for i in rows):
            wanted = published([right[i] for i in rows], [p[i] for i in rows], 0.3)
            assert got[rows].tolist() == pytest.approx(wanted, abs=1e-9)


def test_right_answers_stay_ahead_of_wrong_ones_even_when_one_of_many_is_right():
    got = ConfidenceWeighted()(table([1.0, 0.0], a=[1.0] + [0.0] * 7, text_likelihood=[0.01, *[0.99] * 7]), groups(*[0] * 8))
    assert got[0] > 0 > got[1:].max()


def test_groups_that_are_all_right_or_equally_wrong_get_exactly_zero():
    t = table([1.0, 0.0], a=[1.0, 1.0, 0.0, 0.0], text_likelihood=[0.2, 0.9, 0.1 + 0.2, 0.3])
    assert ConfidenceWeighted()(t, groups(0, 0, 1, 1)).tolist() == [0, 0, 0, 0]


def test_with_equal_likelihoods_a_mixed_group_is_plain_grpo():
    t = table([1.0, 0.0], a=[1.0, 0.0, 0.0, 1.0], text_likelihood=[0.4] * 4)
    plain = GroupAdvantage(eps=1e-12)(table(a=[1.0, 0.0, 0.0, 1.0]), groups(0, 0, 0, 0))
    assert torch.allclose(ConfidenceWeighted(eps=1e-12)(t, groups(0, 0, 0, 0)), plain, atol=1e-9)


def test_rows_without_score_or_likelihood_get_zero_and_touch_nothing():
    ids = groups(0, 0, 0, 0)
    without = ConfidenceWeighted()(table([1.0, 0.0], a=[0.0, 0.0, 0.0], text_likelihood=[0.8, 0.4, 0.6]), ids[:3])
    for column, p, broken in (([0.0, NAN, 0.0, 0.0], 0.9, ()), ([0.0, 0.0, 0.0, 0.0], NAN, ()), ([0.0, 1.0, 0.0, 0.0], 0.9, (1,))):
        got = ConfidenceWeighted()(table([1.0, 0.0], broken=broken, a=column, text_likelihood=[0.8, p, 0.4, 0.6]), ids)
        assert got[1] == 0
        assert torch.equal(got[[0, 2, 3]], without)


def test_a_likelihood_of_zero_is_no_division_by_zero():
    got = ConfidenceWeighted()(table([1.0, 0.0], a=[1.0, 0.0, 0.0, 0.0], text_likelihood=[0.0, 0.0, 0.0, 0.0]), groups(0, 0, 1, 1))
    assert bool(torch.isfinite(got).all())


def test_it_follows_permutations():
    rng = random.Random(1)
    a, p, ids = ([float(rng.random() < 0.4) for _ in range(12)], [rng.random() for _ in range(12)], groups(*[0, 1, 2] * 4))
    order = list(range(12))
    rng.shuffle(order)
    got = ConfidenceWeighted()(table([1.0, 0.0], a=a, text_likelihood=p), ids)
    moved = ConfidenceWeighted()(table([1.0, 0.0], a=[a[i] for i in order], text_likelihood=[p[i] for i in order]), ids[order])
    assert torch.allclose(moved, got[order], atol=1e-12)


def test_a_likelihood_that_no_term_holds_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"advantage\.likelihood: no term of `rewards` is called 'text_likelihood'"):
        part("advantages", "lens")(table(a=[1.0, 0.0]), groups(0, 0))
