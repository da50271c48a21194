"""TP-GRPO: which steps are turning points, and what they are credited with."""

import pytest
import torch
from gaussian import closeness, collected_from, gaussian_velocity, learned, table_of

from vlreward.advantages.group import GroupAdvantage
from vlreward.flow.kernels.cps import Cps
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.objectives.tp_grpo import TpGrpo, turning_points
from vlreward.flow.rollout import completed

VELOCITY = gaussian_velocity(torch.tensor([0.1, -0.2, 0.3]))


def rewards(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def random_rewards(count: int = 400, steps: int = 9) -> torch.Tensor:
    return torch.randn(count, steps + 1, generator=torch.Generator().manual_seed(0)).double()


def test_a_worked_case():
    """Falls, then turns up at the second step and stays above: that step is worth all that came of it."""
    step, turned = turning_points(rewards([1.0, 0.5, 1.5, 1.25, 2.0]), balance=False)
    assert turned.tolist() == [[False, True, False, False]]
    assert step.tolist() == [[-0.5, 1.5, -0.25, 0.75]]


def test_a_turn_that_the_rest_undoes_is_none():
    """Up at the third step, but the rollout ends below that."""
    _, turned = turning_points(rewards([1.0, 1.6, 1.2, 2.0, 1.5]), balance=False)
    assert turned.tolist() == [[False, False, False, False]]


def test_without_turns_steps_are_worth_their_own_gain_and_those_add_up():
    reward = random_rewards()
    step, turned = turning_points(reward, balance=False)
    gained = reward.diff(dim=1)
    assert torch.equal(step[~turned], gained[~turned])
    assert torch.allclose(gained.sum(1), reward[:, -1] - reward[:, 0])
    assert 0.02 < turned.double().mean() < 0.5


def test_a_turning_point_is_worth_the_sum_of_gains_from_it_on_and_goes_the_rollouts_way():
    reward = random_rewards()
    step, turned = turning_points(reward, balance=False)
    to_come = reward.diff(dim=1).flip(1).cumsum(1).flip(1)
    assert torch.allclose(step[turned], to_come[turned])
    whole = (reward[:, -1:] - reward[:, :1]).expand_as(step)
    assert torch.equal(step[turned].sign(), whole[turned].sign())
    assert not turned[:, -1].any(), "nothing comes after the last step"


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_rollout_that_only_goes_one_way_turns_at_most_once_at_the_first_step(sign):
    reward = sign * torch.rand(50, 8, generator=torch.Generator().manual_seed(0)).double().cumsum(1)
    _, turned = turning_points(reward, balance=False)
    assert turned[:, 0].all()
    assert not turned[:, 1:].any()


def test_balancing_keeps_the_largest_and_as_many_that_lead_up_as_down():
    reward = random_rewards() + torch.linspace(0, 2, 10)
    _, free = turning_points(reward, balance=False)
    step, turned = turning_points(reward)
    total = reward[:, -1:] - reward[:, :-1]
    up, down = ((turned & (sign * total > 0)).sum().item() for sign in (1, -1))
    assert up == down == (free & (total < 0)).sum().item() > 0
    assert (free & (total > 0)).sum() > up
    assert total[turned & (total > 0)].min() >= total[free & ~turned & (total > 0)].max()
    assert torch.equal(step[free & ~turned], reward.diff(dim=1)[free & ~turned])


def test_rollouts_that_end_where_they_began_and_those_without_a_reward_have_none():
    assert not turning_points(rewards([1.0, 2.0, 0.5, 1.0], [float("nan"), 0.0, 1.0, 2.0]), balance=False)[1].any()
    _, turned = turning_points(rewards([0.0, 1.0, float("nan"), 3.0, 4.0]), balance=False)
    assert turned.tolist() == [[True, False, False, False]]


def test_the_first_reward_is_that_of_the_same_starting_noise_and_credit_follows_the_table():
    objective, seen = TpGrpo(balance=False), []
    collected = collected_from(objective, VELOCITY, FlowSde(), steps=6)

    def judge(rollouts):
        seen.append(torch.stack([rollout.made.tensor[:, 0, 0] for rollout in rollouts]))
        return closeness(rollouts)

    final = objective.score(collected, judge)
    quiet = torch.cat([completed(VELOCITY, collected.plan, part.x[:, 0], 0) for part in collected.parts])
    assert torch.allclose(seen[0], quiet)
    reward = torch.stack([-((ends.double() - torch.tensor([0.4, -0.3, 0.2])) ** 2).sum(1) for ends in seen], 1)
    wanted, turned = turning_points(reward, balance=False)
    assert torch.allclose(torch.stack([gain.total for gain in objective.gains([*collected.on_the_way, final])], 1), wanted, atol=1e-5)
    assert objective.figures() == {"turning_points": turned.double().mean().item()}
    objective.credit(collected, final, GroupAdvantage())
    assert collected.advantage_BS is not None
    for rows in collected.groups():
        part = wanted[rows, 2]
        assert torch.allclose(collected.advantage_BS[rows, 2], (part - part.mean()) / (part.std() + 1e-4), atol=1e-3)


def test_a_judge_that_broke_on_the_way_leaves_no_turn_there():
    objective, calls = TpGrpo(balance=False), []
    collected = collected_from(objective, VELOCITY, FlowSde())

    def judge(rollouts):
        calls.append(1)
        scores = closeness(rollouts).total.tolist()
        return table_of([float("nan"), *scores[1:]], ["broke", *[None] * 47]) if len(calls) == 2 else table_of(scores)

    objective.credit(collected, objective.score(collected, judge), GroupAdvantage())
    assert collected.advantage_BS is not None
    assert (collected.advantage_BS[0] == 0).tolist() == [True, True, False, False]


@pytest.mark.parametrize("kernel", [FlowSde(), Cps()], ids=repr)
def test_it_learns_where_the_best_answer_is_known(kernel):
    assert learned(TpGrpo(clip=1e-2, step_weight="noise"), kernel, epochs=40) < 0.25
