import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlreward.advantages.base import dead_fraction, group_statistics
from vlreward.advantages.group import GroupAdvantage
from vlreward.types import RewardOutput, RewardTable

NAN = float("nan")


def table(*columns: list[float], weights=None, broken=()) -> RewardTable:
    names = tuple(f"r{i}" for i in range(len(columns)))
    outputs = {
        name: RewardOutput(scores=torch.tensor(c, dtype=torch.float64), errors=["broke" if i in broken else None for i in range(len(c))])
        for name, c in zip(names, columns, strict=True)
    }
    scores = torch.stack([torch.tensor(c, dtype=torch.float64) for c in columns], 1)
    weight = torch.tensor(weights or [1.0] * len(columns), dtype=torch.float64)
    return RewardTable(names=names, weights=weight, scores=scores, outputs=outputs)


def test_a_worked_group():
    got = GroupAdvantage(eps=1e-12)(table([1.0, 2.0, 3.0, 0.0, 0.0]), torch.tensor([7, 7, 7, 9, 9]))
    assert torch.allclose(got, torch.tensor([-1.0, 0.0, 1.0, 0.0, 0.0], dtype=torch.float64))


def test_the_total_is_the_weighted_sum_of_the_terms_that_apply():
    assert table([1.0, NAN], [2.0, 4.0], weights=[0.5, 0.25]).total.tolist() == [1.0, 1.0]
    assert math.isnan(table([NAN], [NAN]).total[0])


def test_a_group_with_equal_totals_gets_exactly_zero():
    noise = [0.1 + 0.2, 0.3, 0.3]
    assert GroupAdvantage()(table(noise), torch.zeros(3, dtype=torch.int64)).tolist() == [0.0, 0.0, 0.0]
    assert dead_fraction(table(noise), torch.zeros(3, dtype=torch.int64)) == 1.0


def test_a_broken_or_inapplicable_row_gets_zero_and_leaves_the_others_as_without_it():
    group = torch.zeros(4, dtype=torch.int64)
    whole = GroupAdvantage()(table([1.0, 2.0, 4.0]), group[:3])
    for column, broken in (([1.0, NAN, 2.0, 4.0], ()), ([1.0, 99.0, 2.0, 4.0], (1,))):
        got = GroupAdvantage()(table(column, broken=broken), group)
        assert got[1] == 0
        assert torch.equal(got[[0, 2, 3]], whole)


def test_batch_deviation_divides_by_that_of_all_rows():
    group = torch.tensor([0, 0, 1, 1])
    got = GroupAdvantage(std="batch", eps=1e-12)(table([0.0, 1.0, 0.0, 3.0]), group)
    deviation = torch.tensor([0.0, 1.0, 0.0, 3.0], dtype=torch.float64).std()
    assert torch.allclose(got, torch.tensor([-0.5, 0.5, -1.5, 1.5], dtype=torch.float64) / deviation)


def test_no_deviation_is_dr_grpo_and_the_clip_bounds_it():
    got = GroupAdvantage(std="none", clip=5.0)(table([0.0, 20.0]), torch.zeros(2, dtype=torch.int64))
    assert got.tolist() == [-5.0, 5.0]


def test_group_ids_must_be_integers():
    with pytest.raises(AssertionError, match="int64"):
        group_statistics(torch.zeros(2), torch.zeros(2))


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_sums_to_zero_ignores_shift_and_scale_and_follows_permutations(values, rng):
    values = [round(v, 3) for v in values]
    group = torch.tensor([rng.randrange(3) for _ in values])
    advantage = GroupAdvantage(clip=1e9, eps=1e-12)
    got = advantage(table(values), group)
    for g in group.unique():
        assert abs(got[group == g].sum()) < 1e-6
    assert torch.allclose(advantage(table([3 * v + 11 for v in values]), group), got, atol=1e-5)
    order = list(range(len(values)))
    rng.shuffle(order)
    assert torch.allclose(advantage(table([values[i] for i in order]), group[order]), got[order], atol=1e-9)
