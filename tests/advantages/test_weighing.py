"""Advantages that weigh, bound or drop what another one gives: difficulty, given weights, three sigma, clipped scaling, sampling."""

import random

import pytest
import torch
from tables import NAN, groups, table

from vlreward.advantages.clipped_scaling import ClippedScaling
from vlreward.advantages.difficulty import DifficultyWeighted, Weighted
from vlreward.advantages.group import GroupAdvantage
from vlreward.advantages.leave_one_out import ReinforcePlusPlus
from vlreward.advantages.sampling import DynamicSampling
from vlreward.advantages.sigma_filter import SigmaFilter
from vlreward.config import parse, part
from vlreward.errors import ConfigError

IDS = groups(0, 0, 0, 0, 1, 1, 1, 1)
MIXED = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0]


def test_a_group_solved_once_in_four_weighs_seven_fifths_of_one_solved_three_times():
    plain = GroupAdvantage()(table(a=MIXED), IDS)
    got = DifficultyWeighted()(table(a=MIXED), IDS)
    # weights 1.75 and 1.25, mean 1.5
    assert torch.allclose(got, plain * torch.tensor([1.75 / 1.5] * 4 + [1.25 / 1.5] * 4, dtype=torch.float64))


def test_by_label_the_rate_is_that_of_the_class_in_the_batch():
    t = table([1.0, 0.0], a=MIXED, kind=[0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    # class 0: 3 of 4 solved, class 1: 1 of 4
    factor = DifficultyWeighted(label="kind").factor(t, IDS)
    assert factor.tolist() == pytest.approx([1.25 / 1.5, 1.75 / 1.5] * 4)


def test_a_row_without_a_label_counts_once_and_makes_no_class_harder():
    t = table([1.0, 0.0], a=[1.0, 0.0, 1.0, 1.0, 0.0, 0.0], kind=[0.0, 0.0, 1.0, 1.0, NAN, NAN])
    assert DifficultyWeighted(label="kind").factor(t, groups(*[0] * 6)).tolist() == pytest.approx([1.2, 1.2, 0.8, 0.8, 1, 1])


def test_both_levels_multiply_and_weights_have_mean_one():
    t = table([1.0, 0.0], a=MIXED, kind=[0.0] * 4 + [1.0] * 4)
    both = DifficultyWeighted(label="kind", of=DifficultyWeighted())
    assert torch.allclose(both(t, IDS), both.factor(t, IDS) * DifficultyWeighted()(t, IDS))
    assert DifficultyWeighted().factor(t, IDS).mean().item() == pytest.approx(1)


def test_a_weight_on_the_reward_is_divided_out_by_the_groups_deviation_and_one_on_the_advantage_is_not():
    plain = GroupAdvantage(eps=1e-12)(table(a=MIXED), IDS)
    heavier = [1.5 * v for v in MIXED[:4]] + MIXED[4:]
    assert torch.allclose(GroupAdvantage(eps=1e-12)(table(a=heavier), IDS), plain)
    t = table([1.0, 0.0], a=MIXED, sample_number=[1.5] * 4 + [1.0] * 4)
    assert torch.allclose(Weighted(of=GroupAdvantage(eps=1e-12))(t, IDS), plain * torch.tensor([1.5] * 4 + [1.0] * 4, dtype=torch.float64))


def test_a_row_without_a_weight_counts_once_and_a_negative_weight_not_at_all():
    t = table([1.0, 0.0], a=[1.0, 0.0, 1.0, 0.0], sample_number=[NAN, NAN, -3.0, -3.0])
    plain = GroupAdvantage()(t, groups(0, 0, 1, 1))
    assert Weighted()(t, groups(0, 0, 1, 1)).tolist() == [plain[0].item(), plain[1].item(), 0, 0]


def test_what_lies_further_out_than_three_deviations_of_the_batch_is_dropped():
    values = [0.0, 0.1] * 20 + [9.0]
    filtered = SigmaFilter(of=ReinforcePlusPlus(baseline="batch", clip=100.0))
    raw = torch.tensor(values, dtype=torch.float64)
    white = (raw - raw.mean()) / (raw.std() + 1e-4)
    got = filtered(table(a=values), groups(*range(41)))
    assert white[-1] > 3
    assert torch.allclose(got, torch.where(white.abs() <= 3, white, 0.0), atol=1e-9), "the paper's rule in float64"
    assert got[-1] == 0


def test_deviations_are_counted_from_the_mean_of_what_is_filtered():
    values = [3.0, *[0.0] * 11, 2.0, *[0.0] * 7]
    lopsided = Weighted(by="n", of=ReinforcePlusPlus(baseline="batch", clip=100.0))
    t = table([1.0, 0.0], a=values, n=[float(v > 0) * 9 + 1 for v in values])
    inner = lopsided(t, groups(*range(20)))
    distance = (inner - inner.mean()).abs() / inner.std()
    assert inner.mean() > 0.5
    sigma = (distance[0].item() + inner[0].item() / inner.std().item()) / 2
    assert SigmaFilter(sigma=sigma, of=lopsided)(t, groups(*range(20)))[0] == inner[0]


def test_one_usable_row_is_no_batch_to_lie_outside_of():
    assert SigmaFilter().factor(table(a=[1.0, NAN]), groups(0, 0)).tolist() == [1, 1]


def test_ten_rows_or_fewer_are_never_filtered():
    values = [0.0] * 9 + [1000.0]
    got = SigmaFilter(of=ReinforcePlusPlus(baseline="batch", clip=100.0))(table(a=values), groups(*range(10)))
    assert got[-1] > 2.8


def test_clipped_scaling_is_grpo_for_zeros_and_ones_and_bounds_what_hardly_differs():
    plain = GroupAdvantage(eps=1e-12)(table(a=MIXED), IDS)
    assert torch.allclose(ClippedScaling()(table(a=MIXED), IDS), plain)
    close = ClippedScaling(max_scale=4.0)(table(a=[0.50, 0.52]), groups(0, 0))
    assert close.tolist() == pytest.approx([-0.04, 0.04]), "four times the difference from the mean, not 0.7 deviations"
    assert ClippedScaling(clip=1.0)(table(a=[0.0, 0.0, 0.0, 1.0]), groups(0, 0, 0, 0))[3] == 1.0


EVERY = [
    DifficultyWeighted(),
    DifficultyWeighted(label="n"),
    Weighted(by="n"),
    SigmaFilter(),
    SigmaFilter(sigma=0.5),
    ClippedScaling(),
]


@pytest.mark.parametrize("advantage", EVERY)
def test_unusable_rows_get_zero_and_touch_nothing(advantage):
    n = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0]
    ids = groups(0, 0, 0, 0, 1, 1, 1)
    rest = [0, 2, 3, 4, 5, 6]
    without = advantage(table([1.0, 0.0], a=[1.0, 0.0, 0.4, 1.0, 0.0, 0.1], n=[n[i] for i in rest]), ids[rest])
    assert without.abs().sum() > 0
    for value, broken in ((NAN, ()), (1.0, (1,))):
        got = advantage(table([1.0, 0.0], broken=broken, a=[1.0, value, 0.0, 0.4, 1.0, 0.0, 0.1], n=n), ids)
        assert got[1] == 0
        assert torch.allclose(got[rest], without, atol=1e-12)
    assert advantage(table([1.0, 0.0], a=[NAN] * 7, n=n), ids).tolist() == [0] * 7


@pytest.mark.parametrize("advantage", EVERY)
def test_constant_groups_get_exactly_zero_and_order_does_not_matter(advantage):
    rng = random.Random(3)
    a = [0.1 + 0.2, 0.3, 0.3, *(rng.random() for _ in range(9))]
    n, ids = [float(rng.randrange(1, 3)) for _ in range(12)], groups(0, 0, 0, *[1, 2, 3] * 3)
    got = advantage(table([1.0, 0.0], a=a, n=n), ids)
    assert got[:3].tolist() == [0, 0, 0]
    order = list(range(12))
    rng.shuffle(order)
    moved = advantage(table([1.0, 0.0], a=[a[i] for i in order], n=[n[i] for i in order]), ids[order])
    assert torch.allclose(moved, got[order], atol=1e-9)


def test_adjusted_advantages_nest_in_a_configuration_and_tell_wrong_names():
    built = part("advantages", {"kind": "sigma_filter", "of": {"kind": "difficulty", "of": {"kind": "leave_one_out"}}})
    assert built.of.of.kind == "leave_one_out"
    with pytest.raises(ConfigError, match=r"advantage\.by: no term of `rewards` is called 'sample_number'"):
        part("advantages", "weighted")(table(a=[1.0, 0.0]), groups(0, 0))


def test_groups_without_differences_are_not_informative_nor_those_outside_of_the_solved_range():
    t = table(a=[0.1 + 0.2, 0.3, 1.0, 0.0, 1.0, 0.99])
    ids = groups(0, 0, 1, 1, 2, 2)
    assert DynamicSampling().informative(t, ids).tolist() == [False, False, True, True, True, True]
    assert DynamicSampling(solved=(0.01, 0.99)).informative(t, ids).tolist() == [False, False, True, True, False, False]


def test_a_group_is_judged_by_its_usable_rows_alone():
    t = table(broken=(2,), a=[1.0, 1.0, 0.0, NAN, NAN])
    assert DynamicSampling().informative(t, groups(0, 0, 0, 1, 1)).tolist() == [False] * 5


def test_a_solved_range_upside_down_is_refused():
    with pytest.raises(ConfigError, match=r"solved: is \[0.9, 0.1\], expected the lower end first"):
        parse(DynamicSampling, {"solved": [0.9, 0.1]})
