"""GRPO-Guard and Flow-DPPO, and Flow-GRPO on every kernel."""

import math

import pytest
import torch
from gaussian import collected_from, gaussian_velocity, learned, table_of, transitions

from vlreward.advantages.group import GroupAdvantage
from vlreward.errors import ConfigError
from vlreward.flow.collect import Batch
from vlreward.flow.kernels.base import Kernel
from vlreward.flow.kernels.cps import Cps
from vlreward.flow.kernels.dance import Dance
from vlreward.flow.kernels.ddim_flow import DdimFlow
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.math import sigmas
from vlreward.flow.objectives.flow_dppo import FlowDppo
from vlreward.flow.objectives.flow_grpo import FlowGrpo
from vlreward.flow.objectives.grpo_guard import GrpoGuard
from vlreward.flow.objectives.policy_gradient import PolicyGradient, spread_and_gain
from vlreward.flow.plan import Plan

KERNELS = [FlowSde(), FlowSde(first="published"), Dance(), Cps(), Cps(log_prob="squared"), DdimFlow()]
METHODS = [FlowGrpo(), GrpoGuard(), FlowDppo()]
ADVANTAGE = [1.0, -2.0, 0.5, 3.0, -1.0]


def shift(value: float | torch.Tensor):
    return lambda x, s, policy="train": value + 0 * x


def ratio_of(objective: PolicyGradient, batch: Batch, value: float) -> torch.Tensor:
    step = batch.kernel(batch.x, value + 0 * batch.x, batch.s, batch.s_next)
    return objective.log_ratio(step, batch).exp()


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
@pytest.mark.parametrize("objective", METHODS, ids=lambda o: o.kind)
def test_ratio_is_exactly_one_and_nothing_is_held_back_at_the_weights_that_sampled(objective, kernel):
    """S6, at the first step and on the way."""
    for s, s_next in ((0.6, 0.4), (1.0, 0.8)):
        value = torch.zeros(4, requires_grad=True)
        loss = objective.loss(shift(value), transitions(kernel, shift(value), ADVANTAGE, s, s_next))
        assert loss.metrics["ratio/deviation"] == 0
        assert loss.metrics["clip_fraction"] == 0
        assert loss.value.item() == pytest.approx(-sum(ADVANTAGE) / 5, abs=1e-6)
        assert torch.autograd.grad(loss.value, value)[0].abs().max() > 0


def test_guard_ratio_is_the_formula_by_hand():
    batch = transitions(FlowSde(), shift(0.0), ADVANTAGE)
    std = 0.7 * math.sqrt(0.6 / 0.4 * 0.2)
    plain = FlowGrpo().log_ratio(batch.kernel(batch.x, 0.3 + 0 * batch.x, batch.s, batch.s_next), batch)
    assert batch.mean is not None
    moved = (batch.kernel(batch.x, 0.3 + 0 * batch.x, batch.s, batch.s_next).mean - batch.mean).square().mean(1)
    wanted = std * (plain + moved / (2 * std**2))
    assert torch.allclose(ratio_of(GrpoGuard(), batch, 0.3).log(), wanted, atol=1e-6)
    assert wanted.shape == (5,)


def test_guard_ratio_of_a_row_does_not_depend_on_the_other_rows():
    batch = transitions(FlowSde(), shift(0.0), ADVANTAGE)
    assert batch.mean is not None
    alone = Batch(**{**vars(batch), "x": batch.x[:1], "x_next": batch.x_next[:1], "s": batch.s[:1], "s_next": batch.s_next[:1],
                     "mean": batch.mean[:1]})  # fmt: skip
    assert torch.equal(ratio_of(GrpoGuard(), alone, 0.3), ratio_of(GrpoGuard(), batch, 0.3)[:1])


@pytest.mark.parametrize("s", [0.95, 0.3])
def test_guard_log_ratio_is_centred_and_of_one_scale_where_the_plain_one_is_neither(s):
    many = transitions(FlowSde(), shift(0.0), [1.0] * 20000, s, s - 0.1)
    guarded, plain = (ratio_of(o, many, 0.5).log() for o in (GrpoGuard(), FlowGrpo()))
    move = 0.5 * 0.1 * (1 + 0.7**2 / 2)
    std = 0.7 * math.sqrt(s / (1 - s) * 0.1)
    assert guarded.mean().item() == pytest.approx(0, abs=5e-4)
    assert guarded.std().item() == pytest.approx(move / 2, rel=0.03)
    assert plain.mean().item() == pytest.approx(-(move**2) / (2 * std**2), rel=0.2, abs=3e-3)


@pytest.mark.parametrize("grid", ["linspace", "native"])
@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_guard_gives_every_step_the_same_gradient_scale(kernel, grid):
    plan = Plan(sigmas=sigmas(10, grid=grid, shift=3.0), kernel=kernel, noisy=tuple(range(9)), train=tuple(range(9)), means=True)
    _, gain = spread_and_gain(plan, plan.train)
    scales = []
    for i in plan.train:
        torch.manual_seed(0)
        v = torch.zeros(1, 4, requires_grad=True)
        s, s_next = plan.sigmas[i : i + 1], plan.sigmas[i + 1 : i + 2]
        step = kernel(torch.zeros(1, 4), v, s, s_next)
        batch = transitions(kernel, shift(0.0), [1.0], s.item(), s_next.item())
        batch = Batch(
            **{**vars(batch), "x": torch.zeros(1, 4), "mean": step.mean.detach(), "x_next": step.sample(torch.ones(1, 4)).detach()}
        )
        scales.append((torch.autograd.grad(GrpoGuard().log_ratio(step, batch).sum(), v)[0].abs().mean() / gain[i]).item())
    assert scales == pytest.approx([0.25] * 9, rel=2e-3)


def test_guard_weights_are_one_over_the_steps_length_for_flow_grpos_kernel():
    objective, velocity = GrpoGuard(), gaussian_velocity(torch.zeros(3))
    collected = collected_from(objective, velocity, FlowSde())
    objective.credit(collected, table_of([float(i % 7) for i in range(48)]), GroupAdvantage())
    assert collected.weight_BS is not None
    length = 0.2
    assert collected.weight_BS[3].tolist() == pytest.approx([1 / length, *[1 / length / (1 + 0.7**2 / 2)] * 3], rel=1e-5)


def test_dppo_holds_back_what_has_moved_too_far_and_would_move_farther_and_nothing_else():
    batch = transitions(FlowSde(), shift(0.0), ADVANTAGE)
    value = torch.full((4,), 0.3, requires_grad=True)
    ratio = ratio_of(FlowDppo(), batch, 0.3)
    farther = ((batch.advantage > 0) & (ratio > 1)) | ((batch.advantage < 0) & (ratio < 1))
    assert 0 < farther.sum() < 5
    for threshold, held in ((1e-6, farther), (1e6, torch.zeros(5, dtype=torch.bool))):
        loss = FlowDppo(threshold=threshold).loss(shift(value), batch)
        assert loss.metrics["clip_fraction"] == pytest.approx(held.float().mean().item())
        assert loss.value.item() == pytest.approx((-batch.advantage * ratio)[~held].sum().item() / 5, rel=1e-5)
        step = batch.kernel(batch.x, value + 0 * batch.x, batch.s, batch.s_next)
        free = (-batch.advantage * (step.log_prob(batch.x_next) - batch.log_prob).exp())[~held].sum() / 5
        assert torch.allclose(torch.autograd.grad(loss.value, value)[0], torch.autograd.grad(free, value)[0], atol=1e-7)


def test_dppo_measures_the_move_as_a_divergence():
    """The threshold stands between the two rows' |mean - mean_old|^2 / (2 std^2)."""
    batch = transitions(FlowSde(), shift(0.0), [1.0, 1.0])
    direction = torch.sign(batch.x_next - batch.mean) * torch.tensor([[-0.1], [-0.3]])
    moved = [(0.2 * (1 + 0.7**2 / 2) * size) ** 2 / (2 * 0.7**2 * 1.5 * 0.2) for size in (0.1, 0.3)]
    for threshold, held in ((moved[0] * 0.99, 1.0), (moved[0] * 1.01, 0.5), (moved[1] * 0.99, 0.5), (moved[1] * 1.01, 0.0)):
        loss = FlowDppo(threshold=threshold).loss(lambda x, s, policy="train": direction, batch)
        assert loss.metrics["clip_fraction"] == held


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_flow_grpo_learns_on_every_kernel(kernel: Kernel):
    clip = 1e-2 if not isinstance(kernel, Cps) or kernel.log_prob == "density" else 1e-3
    assert learned(FlowGrpo(clip=clip, step_weight="noise"), kernel, epochs=40) < 0.2


@pytest.mark.parametrize("objective", [GrpoGuard(clip=1e-2), FlowDppo(threshold=1e-2), FlowDppo(threshold=1e-2, beta=0.01)], ids=repr)
def test_methods_learn_with_several_updates_an_epoch(objective):
    assert learned(objective, FlowSde(), epochs=30, updates=2) < 0.2


def test_flow_grpo_learns_with_shared_noise_a_window_and_a_share_of_the_steps():
    assert learned(FlowGrpo(clip=1e-2), FlowSde(), epochs=40, share_noise=True, window=3, slide=10) < 0.3
    assert learned(FlowGrpo(clip=1e-2), Dance(noise=0.6), epochs=40, share_noise=True, trained=0.6) < 0.3


# The best and the worst of each group


def chosen(objective: PolicyGradient, scores: list[float], micro_batch: int = 24, updates: int = 1):
    """Rollouts of two groups of 24 with credit, and the batches that are trained on."""
    collected = collected_from(objective, gaussian_velocity(torch.zeros(3)), FlowSde(), micro_batch=micro_batch, window=2, window_from=1)
    table = table_of(scores)
    objective.credit(collected, table, GroupAdvantage())
    objective.choose(collected, table)
    return collected, list(collected.updates(updates, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("objective", [FlowGrpo(best_worst=8, step_weight="noise"), GrpoGuard(best_worst=8)], ids=lambda o: o.kind)
def test_only_the_best_and_the_worst_of_each_group_are_computed_on_and_their_credit_is_that_of_the_whole_group(objective):
    scores = torch.randn(48, generator=torch.Generator().manual_seed(1)).tolist()
    whole, _ = chosen(type(objective)(), scores)
    collected, [batches] = chosen(objective, scores, micro_batch=8)
    assert [len(batch.x) for batch in batches] == [8] * 4, "two micro-batches of two steps in place of twelve"
    found = {tuple(x.tolist()): a for batch in batches for x, a in zip(batch.x, batch.advantage.tolist(), strict=True)}
    assert len(found) == 32
    assert whole.advantage_BS is not None
    for rows in whole.groups():
        ranked = sorted(rows, key=lambda row: scores[row])
        wanted = ranked[:4] + ranked[-4:]
        for row in wanted:
            part = collected.parts[row // 8]
            for j in range(2):
                assert found[tuple(part.x[row % 8, j].tolist())] == pytest.approx(whole.advantage_BS[row, j].item(), abs=1e-6)


def test_a_micro_batch_that_is_not_full_keeps_its_size_and_the_rows_that_fill_it_count_nothing():
    objective = FlowGrpo(best_worst=6)
    collected, updates = chosen(objective, [float(i % 24) for i in range(48)], micro_batch=8, updates=2)
    assert [[len(batch.x) for batch in batches] for batches in updates] == [[8, 8], [8, 8]]
    counted = sum(int((batch.advantage != 0).sum()) for batches in updates for batch in batches)
    assert counted == 2 * 6 * 2
    for batches in updates:
        for batch in batches:
            step = batch.kernel(batch.x, gaussian_velocity(torch.zeros(3))(batch.x, batch.s), batch.s, batch.s_next)
            assert torch.equal(step.log_prob(batch.x_next), batch.log_prob)
    assert collected.weight_BS is not None
    assert int((collected.weight_BS[:, 0] > 0).sum()) == 12


def test_rollouts_without_a_reward_are_chosen_last():
    objective = FlowGrpo(best_worst=4)
    collected = collected_from(objective, gaussian_velocity(torch.zeros(3)), FlowSde())
    scores = [float("nan")] * 48
    for rows in collected.groups():
        for place, row in enumerate(rows[9:13]):
            scores[row] = float(place)
    collected.advantage_BS = collected.weight_BS = torch.ones(48, 4)
    objective.choose(collected, table_of(scores))
    assert collected.units is not None
    assert all(scores[row] == scores[row] for [row] in collected.units)
    FlowGrpo(best_worst=8).choose(collected, table_of(scores))
    assert len(collected.units) == 16


def test_learning_from_the_best_and_the_worst_alone():
    assert learned(FlowGrpo(clip=1e-2, step_weight="noise", best_worst=8), FlowSde(), epochs=40) < 0.2


@pytest.mark.parametrize("best_worst", [5, 26])
def test_more_than_the_group_or_an_odd_number_is_refused(best_worst):
    with pytest.raises(ConfigError, match=f"is {best_worst}, expected an even number of at most group.size = 24"):
        FlowGrpo(best_worst=best_worst).check(24)
