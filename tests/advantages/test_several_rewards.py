"""Advantages that look at a table's columns: each reward normalised apart, groups filtered by length, right and wrong apart."""

import random

import pytest
import torch

from vlreward.advantages.drpo import Decoupled
from vlreward.advantages.gdpo import BatchPerReward
from vlreward.advantages.gfpo import Filtered
from vlreward.advantages.mrn import PerReward
from vlreward.config import part
from vlreward.errors import ConfigError
from vlreward.types import RewardOutput, RewardTable

NAN = float("nan")


def table(weights=None, broken=(), **columns: list[float]) -> RewardTable:
    scores = {name: torch.tensor(c, dtype=torch.float64) for name, c in columns.items()}
    outputs = {
        name: RewardOutput(scores=c, errors=["broke" if i in broken and k == 0 else None for i in range(len(c))])
        for k, (name, c) in enumerate(scores.items())
    }
    weight = torch.tensor(weights or [1.0] * len(columns), dtype=torch.float64)
    return RewardTable(names=tuple(columns), weights=weight, scores=torch.stack(list(scores.values()), 1), outputs=outputs)


def groups(*ids: int) -> torch.Tensor:
    return torch.tensor(ids, dtype=torch.int64)


def trls(scores: torch.Tensor, weights: torch.Tensor, size: int) -> torch.Tensor:
    """normalize_then_sum of TRL 1.16, written out from its documentation: groups of `size` in a row, NaN left out."""

    def deviation(values):
        kept = values[~values.isnan()]
        return kept.std() if len(kept) > 1 else torch.tensor(NAN)

    normal = torch.full_like(scores, NAN)
    for start in range(0, len(scores), size):
        for k in range(scores.shape[1]):
            values = scores[start : start + size, k]
            normal[start : start + size, k] = (values - values.nanmean()) / (deviation(values) + 1e-4)
    total = (normal * weights).nansum(1)
    total[scores.isnan().all(1)] = NAN
    return ((total - total.nanmean()) / (deviation(total) + 1e-4)).nan_to_num()


def test_each_reward_counts_by_its_place_in_the_group_whatever_its_scale():
    got = PerReward(eps=1e-12)(table(a=[0.0, 1.0], b=[0.0, 1000.0], weights=[1.0, 0.5]), groups(0, 0))
    z = 0.5**0.5
    assert got.tolist() == pytest.approx([-1.5 * z, 1.5 * z])


def test_two_rewards_for_one_are_worth_more_than_one_which_a_plain_sum_normalised_does_not_say():
    ids = groups(0, 0, 1, 1)
    got = BatchPerReward(eps=1e-12)(table(a=[0.0, 1.0, 0.0, 1.0], b=[0.0, 0.0, 0.0, 1.0]), ids)
    assert got[3] == pytest.approx(2 * got[1].item())


@pytest.mark.parametrize("seed", range(20))
def test_gdpo_is_trls_normalize_then_sum(seed):
    rng = torch.Generator().manual_seed(seed)
    scores = torch.rand(24, 3, generator=rng, dtype=torch.float64) * torch.tensor([1.0, 50.0, 0.01])
    scores[torch.rand(24, generator=rng) < 0.2, 2] = NAN
    scores[5] = NAN
    weights = [1.0, 0.3, 2.0]
    ours = BatchPerReward(clip=1e9)(table(weights=weights, a=scores[:, 0].tolist(), b=scores[:, 1].tolist(), c=scores[:, 2].tolist()),
                                    groups(*(i // 8 for i in range(24))))  # fmt: skip
    assert (ours - trls(scores, torch.tensor(weights, dtype=torch.float64), 8)).abs().max() < 1e-12


@pytest.mark.parametrize("advantage", [PerReward(clip=1e9, eps=1e-12), BatchPerReward(clip=1e9, eps=1e-12)])
def test_invariants_of_normalising_each_reward(advantage):
    rng = random.Random(1)
    a, b = ([rng.uniform(0, 1) for _ in range(12)] for _ in range(2))
    ids = groups(*(rng.randrange(3) for _ in range(12)))
    got = advantage(table(a=a, b=b), ids)
    assert torch.allclose(advantage(table(a=[7 * v - 3 for v in a], b=b), ids), got, atol=1e-6), "shift and scale of one reward"
    for g in ids.unique():
        assert abs(got[ids == g].sum()) < 1e-9
    order = list(range(12))
    rng.shuffle(order)
    assert torch.allclose(advantage(table(a=[a[i] for i in order], b=[b[i] for i in order]), ids[order]), got[order], atol=1e-9)


def test_gdpo_is_mrn_but_for_one_factor():
    rng = random.Random(2)
    t = table(a=[rng.random() for _ in range(9)], b=[rng.random() for _ in range(9)])
    ids = groups(*[0, 1, 2] * 3)
    ratio = BatchPerReward(clip=1e9)(t, ids) / PerReward(clip=1e9)(t, ids)
    assert torch.allclose(ratio, ratio[0].expand(9), atol=1e-9)


EVERY = [
    (PerReward(), {}),
    (BatchPerReward(), {}),
    (Filtered(keep=3), {"text_length": [3.0, 1.0, 2.0, 5.0, 4.0, 1.0]}),
    (Decoupled(max=10, right_at=2.0), {"text_length": [3.0, 1.0, 2.0, 5.0, 4.0, 1.0]}),
]


@pytest.mark.parametrize(("advantage", "extra"), EVERY)
def test_a_row_that_is_broken_or_inapplicable_gets_zero_and_leaves_the_others_as_without_it(advantage, extra):
    a, ids, weights = [1.0, 4.0, 2.0, 8.0, 0.0, 3.0], groups(0, 0, 0, 0, 1, 1), [1.0] + [0.0] * len(extra)
    rest = [0, 2, 3, 4, 5]
    without = advantage(table(weights, a=[a[i] for i in rest], **{k: [v[i] for i in rest] for k, v in extra.items()}), ids[rest])
    nothing = advantage(table(weights, a=[1.0, NAN, *a[2:]], **extra), ids)
    broken = advantage(table(weights, broken=(1,), a=a, **extra), ids)
    for got in (nothing, broken):
        assert got[1] == 0
        assert torch.allclose(got[rest], without, atol=1e-12)
    assert without.abs().sum() > 0


@pytest.mark.parametrize(("advantage", "extra"), EVERY)
def test_a_constant_group_gets_exactly_zero(advantage, extra):
    noise = [0.1 + 0.2, 0.3, 0.3, 0.3, 0.0, 9.0]
    got = advantage(table([1.0] + [0.0] * len(extra), a=noise, **extra), groups(0, 0, 0, 0, 1, 1))
    assert got[:4].tolist() == [0, 0, 0, 0]
    assert got[4:].abs().sum() > 0


@pytest.mark.parametrize(("advantage", "extra"), EVERY)
def test_nothing_at_all_gives_nothing(advantage, extra):
    got = advantage(table(a=[NAN] * 6, **{k: [NAN] * 6 for k in extra}), groups(0, 0, 0, 1, 1, 1))
    assert got.tolist() == [0] * 6


def test_gfpo_learns_from_the_shortest_only_and_by_their_own_statistics():
    t = table([1.0, 0.0], a=[1.0, 0.0, 1.0, 0.0, 1.0], text_length=[10.0, 20.0, 30.0, 40.0, 50.0])
    got = Filtered(keep=3, eps=1e-12)(t, groups(0, 0, 0, 0, 0))
    kept = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    assert got.tolist() == pytest.approx([*((kept - kept.mean()) / kept.std()).tolist(), 0, 0])


def test_gfpo_by_reward_per_length_keeps_what_is_most_worth_its_tokens():
    t = table([1.0, 0.0], a=[1.0, 0.0, 1.0, 0.9], text_length=[100.0, 1.0, 50.0, 10.0])
    got = Filtered(keep=2, by="reward_per_length", eps=1e-12)(t, groups(0, 0, 0, 0))
    assert (got != 0).tolist() == [False, False, True, True]
    assert got[2] > got[3]


def test_gfpo_prefers_the_better_of_equally_long_ones_and_keeps_all_of_a_small_group():
    t = table([1.0, 0.0], a=[0.0, 0.5, 1.0, 0.0, 1.0], text_length=[9.0, 9.0, 9.0, 1.0, 2.0])
    got = Filtered(keep=2, eps=1e-12)(t, groups(0, 0, 0, 1, 1))
    assert (got != 0).tolist() == [False, True, True, True, True]


def test_gfpo_with_everything_kept_is_the_plain_group_advantage():
    from vlreward.advantages.group import GroupAdvantage

    rng = random.Random(3)
    t = table([1.0, 0.0], a=[rng.random() for _ in range(12)], text_length=[float(rng.randrange(9)) for _ in range(12)])
    ids = groups(*[0, 1] * 6)
    assert torch.allclose(Filtered(keep=99)(t, ids), GroupAdvantage()(t, ids), atol=1e-12)


def test_drpo_never_turns_a_right_answer_into_a_bad_example():
    t = table([1.0, 0.0], a=[1.0, 1.0, 1.0, 0.0, 0.0], text_length=[1.0, 500.0, 1000.0, 5.0, 900.0])
    got = Decoupled(max=1000)(t, groups(0, 0, 0, 0, 0))
    assert got[0] > got[1] > got[2] > 0
    assert got[3] == got[4] == -1.25, "wrong ones are pushed alike, whatever their length"
    assert got.sum().abs() < 1e-12


def test_drpos_shares_are_its_closed_form_and_plus_minus_one_in_a_balanced_group():
    even = table([1.0, 0.0], a=[1.0, 1.0, 0.0, 0.0], text_length=[50.0] * 4)
    assert Decoupled(max=100)(even, groups(0, 0, 0, 0)).tolist() == [1, 1, -1, -1]
    t = table([1.0, 0.0], a=[1.0, 1.0, 0.0], text_length=[20.0, 40.0, 10.0])
    weight = torch.exp((1 - torch.tensor([20.0, 40.0], dtype=torch.float64) / 100) / 0.1)
    assert torch.allclose(Decoupled(max=100)(t, groups(0, 0, 0))[:2], 1.5 * weight / weight.sum(), atol=1e-12)


def test_drpo_without_right_or_without_wrong_ones_learns_nothing():
    t = table([1.0, 0.0], a=[1.0, 1.0, 0.0, 0.0], text_length=[1.0, 9.0, 1.0, 9.0])
    assert Decoupled(max=10)(t, groups(0, 0, 1, 1)).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("kind", [{"kind": "gfpo", "keep": 2}, {"kind": "drpo", "max": 10}])
def test_a_length_that_no_term_holds_is_refused_by_name(kind):
    with pytest.raises(ConfigError, match=r"advantage\.length: no term of `rewards` is called 'text_length'; there are a"):
        part("advantages", kind)(table(a=[1.0, 0.0]), groups(0, 0))
