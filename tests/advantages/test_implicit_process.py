"""Returns of implicit rewards beside the outcome."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tables import NAN, groups, table

from vlreward.advantages.implicit_process import ImplicitProcess, from_here_on
from vlreward.advantages.leave_one_out import LeaveOneOut
from vlreward.types import RewardTable

OFFSETS: list = []


def told(outcome: list[float], implicit: list[list[float]], **more) -> RewardTable:
    return replace(table(a=outcome, **more), by_token={"implicit": torch.tensor(implicit, dtype=torch.float64)})


def test_a_worked_group():
    # largest return: 0.4 + 0.1 - 0.1 = 0.4, 0.1 - 0.1 = 0 | 0.2 -> 0.4; scaled rewards: 1, 0.25, -0.25 | -0.5, 0.5
    t = told([1.0, 0.0], [[0.4, 0.1, -0.1], [-0.2, 0.2, NAN]])
    got = ImplicitProcess(clip=1e9).tokens(t, groups(0, 0), OFFSETS)
    means = (1 / 3, 0.0)
    first = [1 + 0.25 - 0.25 - 3 * means[1] + 1, 0.25 - 0.25 - 2 * means[1] + 1, -0.25 - means[1] + 1]
    second = [-0.5 + 0.5 - 2 * means[0] - 1, 0.5 - means[0] - 1]
    expected = torch.tensor([*first, *second], dtype=torch.float64)
    assert got[0].tolist() + got[1, :2].tolist() == pytest.approx((expected / expected.std()).tolist())
    assert got[1, 2] == 0, "nothing beyond the text"


def test_without_implicit_rewards_it_is_the_leave_one_out_outcome_by_its_deviation():
    t = told([1.0, 0.0, 0.5], [[0.0, 0.0]] * 3)
    got, outcome = ImplicitProcess().tokens(t, groups(0, 0, 0), OFFSETS), LeaveOneOut()(t, groups(0, 0, 0))
    assert torch.allclose(got[:, 0] / got[0, 0], outcome / outcome[0])
    assert torch.equal(got[:, 0], got[:, 1])
    assert torch.equal(ImplicitProcess()(t, groups(0, 0, 0)), outcome)


def test_weight_zero_leaves_the_outcome_alone_and_gamma_zero_each_token_to_itself():
    t = told([1.0, 0.0], [[0.4, 0.1], [-0.2, 0.2]])
    plain = ImplicitProcess(weight=0.0).tokens(t, groups(0, 0), OFFSETS)
    assert torch.equal(plain[:, 0], plain[:, 1])
    alone = ImplicitProcess(gamma=0.0, clip=1e9).tokens(t, groups(0, 0), OFFSETS)
    # scaled by 0.5: 0.8, 0.2 | -0.4, 0.4; means 0.5 and 0
    expected = torch.tensor([0.8 + 1, 0.2 + 1, -0.4 - 0.5 - 1, 0.4 - 0.5 - 1], dtype=torch.float64)
    assert alone.flatten().tolist() == pytest.approx((expected / expected.std()).tolist())


def test_the_order_and_the_scale_of_implicit_rewards_do_not_matter():
    t = told([1.0, 0.0, 1.0, 0.0], [[0.4, 0.1], [-0.2, 0.2], [0.0, 0.3], [0.1, -0.1]])
    ids = groups(0, 0, 1, 1)
    got = ImplicitProcess().tokens(t, ids, OFFSETS)
    order = [2, 0, 3, 1]
    mixed = replace(t.reordered(order), by_token={"implicit": t.by_token["implicit"][order]})
    assert torch.allclose(ImplicitProcess().tokens(mixed, ids[order], OFFSETS), got[order])
    larger = replace(t, by_token={"implicit": t.by_token["implicit"] * 7})
    assert torch.allclose(ImplicitProcess().tokens(larger, ids, OFFSETS), got)


def test_equal_rollouts_teach_nothing_and_a_broken_one_stays_out_of_the_others_baseline():
    same = told([1.0, 1.0], [[0.1, 0.1], [0.1, 0.1]])
    assert ImplicitProcess(gamma=0.0).tokens(same, groups(0, 0), OFFSETS).abs().max() < 1e-9
    t = told([1.0, 0.0, NAN], [[0.4, 0.1], [-0.2, 0.2], [9.0, 9.0]])
    two = told([1.0, 0.0], [[0.4, 0.1], [-0.2, 0.2]])
    got = ImplicitProcess().tokens(t, groups(0, 0, 0), OFFSETS)
    assert torch.allclose(got[:2], ImplicitProcess().tokens(two, groups(0, 0), OFFSETS))
    assert got[2].abs().sum() == 0


def test_a_rollout_alone_in_its_group_gets_nothing():
    t = told([1.0, 0.0, 1.0], [[0.4, 0.1], [-0.2, 0.2], [5.0, 5.0]])
    assert ImplicitProcess().tokens(t, groups(0, 0, 1), OFFSETS)[2].abs().sum() == 0


def test_returns_are_discounted_from_the_end_on():
    assert from_here_on(torch.tensor([[1.0, 2.0, 4.0]]), 0.5).tolist() == [[3.0, 4.0, 4.0]]
