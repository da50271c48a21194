"""GDRO's losses by hand, what they agree with, and what they learn."""

import math

import pytest
import torch
import torch.nn.functional as F
from gaussian import closeness, collected_from, ends, gaussian_velocity, learned, table_of

from vlreward.advantages.group import GroupAdvantage
from vlreward.flow.collect import Batch
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.objectives.flow_dpo import FlowDpo
from vlreward.flow.objectives.flow_rwr import FlowRwr
from vlreward.flow.objectives.forward import error
from vlreward.flow.objectives.gdro import Gdro, wanted


def given(live: torch.Tensor, other: torch.Tensor):
    return lambda x, s, policy="train": live if policy == "train" else other


def slope(objective, batch: Batch, live: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    live = live.clone().requires_grad_()
    return torch.autograd.grad(objective.loss(given(live, other), batch).value, live)[0]


@pytest.mark.parametrize(("ranking", "value"), [("top", math.log(4)), ("full", math.log(24))])
def test_at_the_reference_the_loss_is_the_log_of_the_number_of_choices(ranking, value):
    batch, live = ends([0.9, 0.1, 0.5, 0.3]), torch.full((4, 4), 0.3)
    objective = Gdro(gamma=0.0, ranking=ranking, temperature=1e-4)
    assert objective.loss(given(live, live), batch).value.item() == pytest.approx(value, rel=1e-5)


def test_equal_rewards_want_equal_shares_and_no_reward_is_too_large():
    assert wanted(torch.full((3,), 7.0), 0.05).tolist() == pytest.approx([1 / 3] * 3)
    assert wanted(torch.tensor([1e6, 0.0]), 0.05).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("ranking", ["top", "full"])
def test_two_pictures_and_a_small_temperature_are_dpo(ranking):
    live, other = torch.full((2, 4), 0.3), torch.full((2, 4), -0.2)
    pair = ends([1.0, 0.0])
    ours = Gdro(strength=25.0, temperature=1e-6, gamma=0.0, ranking=ranking).loss(given(live, other), pair).value
    assert ours.item() == pytest.approx(FlowDpo(strength=50.0).loss(given(live, other), pair).value.item(), rel=1e-5)


def test_the_full_loss_by_hand():
    objective, implicit, reward = Gdro(temperature=0.5), torch.tensor([0.4, -0.1, 0.2]), torch.tensor([1.0, 0.5, 0.0])
    first = torch.logsumexp(implicit, 0) - (torch.softmax(reward / 0.5, 0) * implicit).sum()
    second = torch.logsumexp(implicit[1:], 0) - (torch.softmax(reward[1:] / 0.5, 0) * implicit[1:]).sum()
    assert objective.cross_entropy(implicit, reward).item() == pytest.approx((first + second).item())
    assert Gdro(temperature=0.5, ranking="top").cross_entropy(implicit, reward).item() == pytest.approx(first.item())


def test_the_gradient_is_zero_where_the_implicit_rewards_are_the_wanted_ones():
    reward = torch.tensor([1.0, 0.5, 0.0])
    implicit = (reward / 0.5).requires_grad_()
    for ranking in ("top", "full"):
        loss = Gdro(temperature=0.5, ranking=ranking).cross_entropy(implicit, reward)
        assert torch.autograd.grad(loss, implicit)[0].abs().max() < 1e-6


def test_the_order_of_a_group_does_not_matter():
    batch, live, other = ends([0.9, 0.1, 0.5]), torch.randn(3, 4), torch.randn(3, 4)
    order = [2, 0, 1]
    turned = Batch(**{**vars(batch), **{n: getattr(batch, n)[order] for n in ("x", "x_next", "s", "s_next", "group", "advantage")}})
    first = Gdro().loss(given(live, other), batch).value
    assert Gdro().loss(given(live[order], other[order]), turned).value.item() == pytest.approx(first.item(), rel=1e-5)


def test_gamma_imitates_the_best_picture_alone():
    batch, live = ends([0.1, 0.9, 0.5]), torch.full((3, 4), 0.3)
    free = live.clone().requires_grad_()
    best = torch.autograd.grad(2.0 * error(free, batch)[1], free)[0]
    assert torch.allclose(slope(Gdro(gamma=2.0), batch, live, live) - slope(Gdro(gamma=0.0), batch, live, live), best, atol=1e-6)


def test_rewards_themselves_are_fitted_and_ties_and_missing_rewards_left_out():
    scores = [0.5] * 24 + [float(i % 3) for i in range(24)]
    collected = collected_from(Gdro(), gaussian_velocity(torch.zeros(3)), Ode())
    rows = {group: [i for i, r in enumerate(collected.rollouts) if r.group == group] for group in (0, 1)}
    by_row = dict(zip(rows[0] + rows[1], scores, strict=True))
    by_row[rows[1][4]] = float("nan")
    Gdro().credit(collected, table_of([by_row[i] for i in range(48)]), GroupAdvantage())
    [kept] = collected.units or []
    assert set(kept) == set(rows[1]) - {rows[1][4]}
    assert collected.advantage_BS is not None
    assert collected.advantage_BS[rows[1][5], 1] == by_row[rows[1][5]]


@pytest.mark.parametrize("objective", [Gdro(strength=3.0), Gdro(strength=3.0, ranking="top"), Gdro(strength=3.0, gamma=0.0)], ids=repr)
def test_each_learns_where_the_best_answer_is_known(objective):
    assert learned(objective, Ode(), epochs=40) < 0.25


def test_strength_ties_it_to_the_reference():
    """What is fitted is the reference times exp(reward / temperature), the nearer to it the larger the strength."""
    assert learned(Gdro(strength=40.0), Ode(), epochs=40) > 0.5


def test_rwr_of_the_paper_weighs_by_the_reward_itself():
    collected = collected_from(FlowRwr(), gaussian_velocity(torch.zeros(3)), Ode())
    table = closeness(collected.rollouts)
    objective = FlowRwr(scale="absolute", temperature=2.0)
    objective.credit(collected, table, GroupAdvantage())
    assert collected.weight_BS is not None
    assert torch.allclose(collected.weight_BS[:, 0], (table.total / 2).exp())
    objective.credit(collected, table_of([float("nan"), 1.0] * 24), GroupAdvantage())
    assert collected.weight_BS[::2].abs().max() == 0
    assert F.mse_loss(collected.weight_BS[1::2], torch.full((24, 2), math.exp(0.5), dtype=torch.float64)) < 1e-12
