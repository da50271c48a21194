"""TempFlow-GRPO and DenseGRPO: what each step is credited with."""

import pytest
import torch
from gaussian import closeness, collected_from, decode, gaussian_velocity, learned, table_of

from vlreward.advantages.group import GroupAdvantage
from vlreward.config import parse
from vlreward.errors import ConfigError
from vlreward.flow.collect import Collected, collect
from vlreward.flow.kernels.cps import Cps
from vlreward.flow.kernels.dance import Dance
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.math import sigmas
from vlreward.flow.objectives.base import Objective
from vlreward.flow.objectives.dense_grpo import DenseGrpo
from vlreward.flow.objectives.tempflow_grpo import TempflowGrpo
from vlreward.flow.plan import Noise, Plan
from vlreward.flow.processes import Processes
from vlreward.flow.rollout import completed, rollout
from vlreward.flow.sampler import Sampler, Schedule
from vlreward.types import RewardTable, Sample

VELOCITY = gaussian_velocity(torch.tensor([0.1, -0.2, 0.3]))


def ends(collected: Collected) -> torch.Tensor:
    return torch.cat([part.x0 for part in collected.parts])


def plan_of(objective: Objective, epoch: int, steps: int = 10, **schedule) -> Plan:
    return objective.plan(Sampler(kernel=FlowSde(), schedule=Schedule(steps=steps, **schedule)), sigmas(steps, shift=3.0), epoch, 7)


# TempFlow-GRPO


def test_exactly_one_step_is_noisy_and_trained_and_every_step_gets_its_turn():
    plans = [plan_of(TempflowGrpo(), epoch) for epoch in range(100)]
    assert all(plan.noisy == plan.train == (plan.branch,) and plan.share_noise for plan in plans)
    assert {plan.branch for plan in plans} == set(range(9))
    assert {plan_of(TempflowGrpo(before=3), epoch).branch for epoch in range(50)} == {0, 1, 2}
    assert [plan_of(TempflowGrpo(), epoch).branch for epoch in range(9)] == [plan.branch for plan in plans[:9]]


@pytest.mark.parametrize("epoch", range(4))
def test_branches_of_a_group_are_one_until_their_step_and_differ_after_it(epoch):
    collected = collected_from(TempflowGrpo(), VELOCITY, FlowSde(), epoch, size=6, micro_batch=12, steps=6)
    x = torch.cat([part.x[:, 0] for part in collected.parts])
    x_next = torch.cat([part.x_next[:, 0] for part in collected.parts])
    firsts = []
    for rows in collected.groups():
        assert all(torch.equal(x[row], x[rows[0]]) for row in rows)
        assert len({tuple(x_next[row].tolist()) for row in rows}) == 6
        firsts.append(x[rows[0]])
    assert not torch.allclose(firsts[0], firsts[1])


def test_branching_is_the_same_as_going_the_whole_way_with_each_rollout():
    collected = collected_from(TempflowGrpo(), VELOCITY, FlowSde(), 3, size=6, micro_batch=12, steps=6)
    plan, noise = collected.plan, Noise(1)
    assert plan.branch
    for row, (epoch, group, member) in enumerate(collected.keys):
        x, eps = noise.batch((3,), [(epoch, group, 0, -1)]), noise.batch((3,), [(epoch, group, member, plan.branch)])
        whole = rollout(VELOCITY, plan, x, lambda step, eps=eps: eps)
        assert torch.allclose(whole.x0[0], ends(collected)[row], atol=1e-5)


@pytest.mark.parametrize(
    ("grid", "wanted"),
    [("native", [1.673, 1.208, 1.004, 0.882, 0.795, 0.719, 0.635, 0.508]),
     ("linspace", [1.655, 1.192, 0.989, 0.869, 0.784, 0.716, 0.651, 0.574])],
)  # fmt: skip
def test_weights_follow_the_steps_noise_and_average_to_one(grid, wanted):
    """The published weights of noise 0.7, ten steps, shift 3; that of the first step follows from what is done at s = 1."""
    objective, found = TempflowGrpo(), {}
    sampler = Sampler(kernel=FlowSde(first="published"), schedule=Schedule(steps=10))
    samples = [Sample(id=str(i), prompt="") for i in range(2)]
    for epoch in range(40):
        plan = objective.plan(sampler, sigmas(10, grid=grid, shift=3.0), epoch, 0)
        if plan.branch in found:
            continue
        collected = collect(lambda prompts: VELOCITY, decode, plan, (3,), samples, Noise(1), epoch=epoch, size=2, micro_batch=4)
        objective.credit(collected, closeness(collected.rollouts), GroupAdvantage())
        assert collected.weight_BS is not None
        assert collected.weight_BS.shape == (4, 1)
        found[plan.branch] = collected.weight_BS[0, 0].item()
    assert [found[k] for k in range(1, 9)] == pytest.approx(wanted, abs=2e-3)
    assert sum(found.values()) / 9 == pytest.approx(1, abs=1e-5)


def test_without_noise_all_branches_are_equal_and_nothing_is_learned():
    collected = collected_from(TempflowGrpo(), VELOCITY, FlowSde(noise=1e-9), size=6, micro_batch=12)
    TempflowGrpo().credit(collected, closeness(collected.rollouts), GroupAdvantage())
    assert collected.advantage_BS is not None
    assert collected.advantage_BS.abs().max() == 0


def test_a_branch_beyond_the_steps_is_refused():
    with pytest.raises(ConfigError, match="at most the 9 steps before the last") as error:
        plan_of(TempflowGrpo(before=10), 0)
    assert error.value.key == "objective.before"


# DenseGRPO


def test_completions_of_the_plans_sigmas_end_where_the_rollout_would():
    """n = t: bit for bit the sampler's own continuation."""
    plan = Plan(sigmas=sigmas(6, shift=3.0), kernel=Ode())
    x = torch.randn(4, 3)
    part = rollout(VELOCITY, Plan(sigmas=plan.sigmas[:3], kernel=Ode()), x, lambda step: x).x0
    assert torch.equal(completed(VELOCITY, plan, part, 2), rollout(VELOCITY, plan, x, lambda step: x).x0)


def test_gains_add_up_to_the_finished_reward_less_that_of_the_first_picture():
    objective = DenseGrpo()
    collected = collected_from(objective, VELOCITY, FlowSde(), steps=6)
    final = objective.score(collected, closeness)
    gains = objective.gains([*collected.on_the_way, final])
    assert len(gains) == 5
    quiet = torch.cat([completed(VELOCITY, collected.plan, part.x[:, 0], 0) for part in collected.parts])
    first = closeness(collected.completed(0)).total
    assert torch.allclose(ends_of(collected, 0), quiet)
    assert torch.allclose(sum(gain.total for gain in gains), final.total - first, atol=1e-9)  # type: ignore[arg-type]


def ends_of(collected: Collected, j: int) -> torch.Tensor:
    return torch.stack([rollout.made.tensor[:, 0, 0] for rollout in collected.completed(j) if rollout.made is not None])


def test_each_step_is_compared_within_its_group_by_what_it_gained():
    objective, advantage = DenseGrpo(), GroupAdvantage()
    collected = collected_from(objective, VELOCITY, FlowSde(), steps=6, window=3, window_from=1)
    assert collected.plan.train == (1, 2, 3)
    objective.credit(collected, objective.score(collected, closeness), advantage)
    found = collected.advantage_BS
    assert found is not None
    rewards = [closeness(collected.completed(j)).total for j in range(3)] + [closeness(collected.rollouts).total]
    for j in range(3):
        difference = rewards[j + 1] - rewards[j]
        for rows in collected.groups():
            part = difference[rows]
            assert torch.allclose(found[rows, j], (part - part.mean()) / (part.std() + 1e-4), atol=1e-6)
    assert not torch.allclose(found[:, 0], found[:, 1])


def test_a_share_of_the_steps_to_train_is_overruled():
    assert plan_of(DenseGrpo(), 0, trained=0.5).train == tuple(range(9))


def test_a_judgement_that_broke_on_the_way_credits_neither_neighbour():
    objective = DenseGrpo()
    collected = collected_from(objective, VELOCITY, FlowSde())
    calls: list[int] = []

    def judge(rollouts) -> RewardTable:
        calls.append(len(rollouts))
        scores = closeness(rollouts).total.tolist()
        broke = len(calls) == 2
        return table_of([float("nan"), *scores[1:]] if broke else scores, ["broke", *[None] * 47] if broke else [])

    objective.credit(collected, objective.score(collected, judge), GroupAdvantage())
    found = collected.advantage_BS
    assert found is not None
    assert calls == [48] * 5
    assert (found[0] == 0).tolist() == [True, True, False, False]
    assert found.isfinite().all()


# DenseGRPO's noise


def calibrated(objective: DenseGrpo, gains: list[list[float]], epoch: int = 0, kernel=None) -> Collected:
    """Two groups of 24 with these gains [S,48] at three steps, up to a final reward of 0, credited."""
    collected = collected_from(objective, VELOCITY, kernel or FlowSde(), epoch, steps=5, window=3, window_from=1)
    before = -torch.tensor(gains).flip(0).cumsum(0).flip(0)
    collected.on_the_way = [table_of(rewards) for rewards in before.tolist()]
    objective.credit(collected, table_of([0.0] * 48), GroupAdvantage())
    return collected


MIXED, RISING, STILL = [1.0, -1.0] * 24, [1.0] * 40 + [-1.0] * 8, [0.0] * 48


def test_noise_of_a_balanced_step_grows_and_of_a_lopsided_one_falls_and_of_one_without_gains_stays():
    objective = DenseGrpo(calibrate=0.05)
    collected = calibrated(objective, [MIXED, RISING, STILL])
    assert collected.plan.noise == (0.7, 0.7, 0.7)
    assert objective.noise == pytest.approx({1: 0.75, 2: 0.65})
    plan = plan_of(objective, 1, steps=5, window=3, window_from=1)
    assert plan.noise == pytest.approx((0.75, 0.65, 0.7))
    assert objective.figures() == pytest.approx({"noise/step_1": 0.75, "noise/step_2": 0.65})
    calibrated(objective, [RISING, RISING, [-g for g in RISING]], 1)
    assert objective.noise == pytest.approx({1: 0.7, 2: 0.6, 3: 0.65})


def test_noise_stays_within_its_bounds():
    objective = DenseGrpo(calibrate=0.05, least_noise=0.6, most_noise=0.8)
    for epoch in range(5):
        calibrated(objective, [MIXED, RISING, STILL], epoch)
    assert objective.noise == pytest.approx({1: 0.8, 2: 0.6})


@pytest.mark.parametrize("kernel", [FlowSde(), Cps(), Dance()], ids=repr)
def test_each_step_is_sampled_and_replayed_with_its_own_noise(kernel):
    objective = DenseGrpo(calibrate=0.3, step_weight="noise", most_noise=1.0)
    calibrated(objective, [MIXED, RISING, STILL], kernel=kernel)
    collected = calibrated(objective, [STILL, STILL, STILL], 1, kernel)
    own = [kernel.noise + change for change in (0.3, -0.3, 0.0)]
    wanted = [min(max(noise, 0.1), 1.0) for noise in own]
    [batches] = collected.updates(1, torch.Generator())
    stds = {}
    for batch in batches:
        assert vars(batch.kernel)["noise"] == pytest.approx(wanted[batch.step - 1])
        step = batch.kernel(batch.x, VELOCITY(batch.x, batch.s), batch.s, batch.s_next)
        assert torch.equal(step.log_prob(batch.x_next), batch.log_prob)
        stds[batch.step] = step.std.flatten()[0].item()
    ordered = torch.tensor([stds[step] for step in (1, 2, 3)])
    assert collected.weight_BS is not None
    assert torch.allclose(collected.weight_BS[0], ordered / ordered.mean(), atol=1e-5)


def test_noise_is_kept_and_put_back_and_a_new_run_begins_anew():
    objective, other = DenseGrpo(calibrate=0.05), DenseGrpo(calibrate=0.05)
    calibrated(objective, [MIXED, RISING, STILL])
    other.load_state_dict(objective.state_dict())
    assert plan_of(other, 1, steps=5).noise == plan_of(objective, 1, steps=5).noise
    objective.prepare((3,), lambda prompts: {}, Processes("cpu"), 0)
    assert set(plan_of(objective, 1, steps=5).noise) == {0.7}
    assert plan_of(DenseGrpo(), 1).noise == ()


def test_bounds_that_cross_are_refused():
    with pytest.raises(ConfigError, match=r"at most most_noise = 0\.2"):
        DenseGrpo(least_noise=0.3, most_noise=0.2)


@pytest.mark.parametrize(
    "objective", [TempflowGrpo(clip=1e-2), DenseGrpo(clip=1e-2, step_weight="noise", calibrate=0.02)], ids=lambda o: o.kind
)
@pytest.mark.parametrize("kernel", [FlowSde(), Cps()], ids=repr)
def test_each_learns_where_the_best_answer_is_known(objective, kernel):
    assert learned(objective, kernel, epochs=50) < 0.25


def test_the_methods_are_named_in_a_configuration():
    assert isinstance(parse(Objective, {"kind": "dense_grpo", "clip": 0.1}, "objective"), DenseGrpo)
