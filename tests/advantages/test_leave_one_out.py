import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import NAN, groups, table

from vlreward.advantages.leave_one_out import LeaveOneOut, ReinforcePlusPlus


def test_each_row_is_compared_with_the_mean_of_the_others():
    got = LeaveOneOut()(table(a=[1.0, 0.0, 0.5, 4.0]), groups(0, 0, 0, 1))
    assert got.tolist() == pytest.approx([1 - 0.25, 0 - 0.75, 0.5 - 0.5, 0])


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=14), st.randoms(use_true_random=False))
def test_it_is_the_plain_loop_and_ignores_shifts(values, rng):
    values = [round(v, 3) for v in values]
    ids = [rng.randrange(3) for _ in values]
    got = LeaveOneOut(clip=1e9)(table(a=values), groups(*ids))
    for i, value in enumerate(values):
        others = [values[j] for j in range(len(values)) if j != i and ids[j] == ids[i]]
        assert got[i].item() == pytest.approx(value - sum(others) / len(others) if others else 0.0, abs=2e-6)
    assert torch.allclose(LeaveOneOut(clip=1e9)(table(a=[v + 7 for v in values]), groups(*ids)), got, atol=1e-9)


def test_the_group_baseline_is_divided_by_the_deviation_of_the_differences():
    ids, values = groups(0, 0, 1, 1, 1), [0.0, 2.0, 10.0, 10.0, 13.0]
    centred = torch.tensor([-1.0, 1.0, -1.0, -1.0, 2.0], dtype=torch.float64)
    got = ReinforcePlusPlus(eps=1e-12)(table(a=values), ids)
    assert got.tolist() == pytest.approx((centred / centred.std()).tolist())


def test_the_batch_baseline_whitens_and_gives_constant_groups_their_place_in_the_batch():
    values = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    got = ReinforcePlusPlus(baseline="batch", eps=1e-12)(table(a=values.tolist()), groups(0, 0, 1, 1))
    assert got.tolist() == pytest.approx(((values - values.mean()) / values.std()).tolist())
    assert ReinforcePlusPlus()(table(a=values.tolist()), groups(0, 0, 1, 1)).tolist() == [0, 0, 0, 0]


def test_shift_scale_and_order_do_not_matter_to_reinforce_pp():
    rng = random.Random(4)
    values, ids = [rng.random() for _ in range(12)], groups(*[0, 0, 1] * 4)
    for baseline in ("group", "batch"):
        advantage = ReinforcePlusPlus(baseline=baseline, eps=1e-12)
        got = advantage(table(a=values), ids)
        assert torch.allclose(advantage(table(a=[5 * v - 2 for v in values]), ids), got, atol=1e-9)
        order = list(range(12))
        rng.shuffle(order)
        assert torch.allclose(advantage(table(a=[values[i] for i in order]), ids[order]), got[order], atol=1e-9)


@pytest.mark.parametrize("advantage", [LeaveOneOut(), ReinforcePlusPlus(), ReinforcePlusPlus(baseline="batch")])
def test_unusable_rows_get_zero_and_touch_nothing_and_equal_totals_get_exactly_zero(advantage):
    ids = groups(0, 0, 0, 1, 1)
    without = advantage(table(a=[1.0, 2.0, 5.0, 3.0]), groups(0, 0, 1, 1))
    for column, broken in (([1.0, NAN, 2.0, 5.0, 3.0], ()), ([1.0, 9.0, 2.0, 5.0, 3.0], (1,))):
        got = advantage(table(broken=broken, a=column), ids)
        assert got[1] == 0
        assert torch.equal(got[[0, 2, 3, 4]], without)
    assert advantage(table(a=[0.1 + 0.2, 0.3, 0.3, 0.3, 0.3]), ids).tolist() == [0] * 5
    assert advantage(table(a=[NAN] * 5), ids).tolist() == [0] * 5
