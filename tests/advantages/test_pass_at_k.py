import itertools
import math
import random

import pytest
import torch
from tables import NAN, groups, table

from vlreward.advantages.group import GroupAdvantage
from vlreward.advantages.pass_at_k import BestOnly, PassAtK


def by_all_subsets(values: list[float], k: int) -> list[float]:
    best = {chosen: max(values[i] for i in chosen) for chosen in itertools.combinations(range(len(values)), k)}
    mean = sum(best.values()) / len(best)
    deviation = math.sqrt(sum((b - mean) ** 2 for b in best.values()) / len(best))
    with_i = [[b for chosen, b in best.items() if i in chosen] for i in range(len(values))]
    return [(sum(found) / len(found) - mean) / deviation if deviation > 1e-9 else 0.0 for found in with_i]


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", ["binary", "dense"])
def test_it_is_the_mean_over_all_subsets(k, kind):
    rng = random.Random(k)
    for _ in range(20):
        count = rng.randrange(k + 1, 9)
        values = [float(rng.random() < 0.4) if kind == "binary" else rng.uniform(-1, 1) for _ in range(count)]
        if max(values) - min(values) < 1e-6:
            continue
        got = PassAtK(k=k, eps=1e-12, clip=1e9)(table(a=values), groups(*[0] * count))
        assert got.tolist() == pytest.approx(by_all_subsets(values, k), abs=1e-6)


@pytest.mark.parametrize(("right", "count", "k"), [(1, 8, 4), (2, 8, 4), (3, 8, 2), (1, 16, 8)])
def test_right_and_wrong_answers_get_the_papers_closed_form(right, count, k):
    wrong = count - right
    mean = 1 - math.comb(wrong, k) / math.comb(count, k)
    deviation = math.sqrt(mean * (1 - mean))
    good = (1 - mean) / deviation
    bad = (1 - mean - math.comb(wrong - 1, k - 1) / math.comb(count - 1, k - 1)) / deviation
    got = PassAtK(k=k, eps=1e-12)(table(a=[1.0] * right + [0.0] * wrong), groups(*[0] * count))
    assert got.tolist() == pytest.approx([good] * right + [bad] * wrong)


def test_with_k_of_one_it_is_grpo_but_for_the_kind_of_deviation():
    values = [0.2, 0.9, 0.4, 0.4]
    ratio = PassAtK(k=1, eps=1e-12)(table(a=values), groups(*[0] * 4)) / GroupAdvantage(eps=1e-12)(table(a=values), groups(*[0] * 4))
    assert torch.allclose(ratio, torch.full((4,), math.sqrt(4 / 3), dtype=torch.float64))


def test_groups_of_k_or_fewer_or_mostly_right_ones_teach_nothing():
    assert PassAtK(k=3)(table(a=[1.0, 0.0, 0.5, 1.0, 0.0]), groups(0, 0, 0, 1, 1)).tolist() == [0] * 5
    got = PassAtK(k=4)(table(a=[1.0] * 7 + [0.0]), groups(*[0] * 8))
    assert got.abs().max() == 0, "every subset of four holds a right one"


def test_only_the_best_gets_its_lead_over_the_second_in_deviations():
    values = torch.tensor([0.1, 0.9, 0.5], dtype=torch.float64)
    got = BestOnly()(table(a=[*values.tolist(), 1.0, 1.0, 0.0]), groups(0, 0, 0, 1, 1, 1))
    assert got.tolist() == pytest.approx([0, (0.4 / (values.std() + 1e-6)).item(), 0, 0, 0, 0])


def test_a_first_place_shared_up_to_float_noise_is_worth_exactly_nothing():
    assert BestOnly()(table(a=[0.1 + 0.2, 0.3, 0.0]), groups(0, 0, 0)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("advantage", [PassAtK(k=2), BestOnly()])
def test_unusable_rows_get_zero_and_touch_nothing_and_constant_groups_get_exactly_zero(advantage):
    ids = groups(0, 0, 0, 0, 1, 1, 1)
    without = advantage(table(a=[0.0, 1.0, 0.5, 0.2, 0.1, 0.9]), groups(0, 0, 0, 1, 1, 1))
    assert without.abs().sum() > 0
    for column, broken in (([0.0, NAN, 1.0, 0.5, 0.2, 0.1, 0.9], ()), ([0.0, 9.0, 1.0, 0.5, 0.2, 0.1, 0.9], (1,))):
        got = advantage(table(broken=broken, a=column), ids)
        assert got[1] == 0
        assert torch.equal(got[[0, 2, 3, 4, 5, 6]], without)
    assert advantage(table(a=[0.1 + 0.2, *[0.3] * 6]), ids).tolist() == [0] * 7
    assert advantage(table(a=[NAN] * 7), ids).tolist() == [0] * 7


@pytest.mark.parametrize("advantage", [PassAtK(k=3, eps=1e-12), BestOnly(eps=1e-12)])
def test_shift_scale_and_order_do_not_matter(advantage):
    rng = random.Random(2)
    values, ids = [rng.random() for _ in range(15)], groups(*[0, 1, 0] * 5)
    got = advantage(table(a=values), ids)
    assert torch.allclose(advantage(table(a=[3 * v - 1 for v in values]), ids), got, atol=1e-8)
    order = list(range(15))
    rng.shuffle(order)
    assert torch.allclose(advantage(table(a=[values[i] for i in order]), ids[order]), got[order], atol=1e-9)


def test_pass_at_k_sums_to_zero_in_each_group():
    got = PassAtK(k=3, clip=1e9)(table(a=[0.3, 0.1, 0.7, 0.2, 0.9, 0.4]), groups(*[0] * 6))
    assert abs(got.sum()) < 1e-9
