"""FK steering: weights, resampling and what the particles stand for, on numbers and on a Gaussian whose tilt is known."""

import math

import pytest
import torch
from gaussian import WANTED, WIDTH, Close, gaussian_velocity, judges, studio

from vlreward.errors import ConfigError
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.plan import Plan
from vlreward.flow.rollout import rollout
from vlreward.flow.steer.fk_steering import FkSteering, Lineages
from vlreward.rewards.composite import Composite, Term
from vlreward.types import Sample

ONE = [Sample(id="one", prompt="a")]
POTENTIALS = ["difference", "max", "sum"]
plain = gaussian_velocity(torch.zeros(3))


@pytest.mark.parametrize("potential", POTENTIALS)
@pytest.mark.parametrize("threshold", [0.0, 0.7, 1.0])
def test_the_potentials_of_every_lineage_multiply_to_the_reward_of_its_end(potential, threshold):
    torch.manual_seed(0)
    lineages = Lineages(3, 8, 2.0, potential)
    for _ in range(4):
        lineages.judge(torch.randn(24))
        lineages.resample(torch.rand(3), threshold)
    end = torch.randn(24)
    lineages.judge(end, last=True)
    assert torch.allclose(lineages.paid_SK, 2.0 * end.double().view(3, 8))


@pytest.mark.parametrize("potential", POTENTIALS)
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_the_mean_weight_is_an_unbiased_estimate_whatever_the_potential_and_however_often_it_resamples(potential, threshold):
    """Of E[exp(strength r)] for a walk of three standard normal steps, r its place: exp(3 strength^2 / 2)."""
    torch.manual_seed(0)
    sets, size, strength = 3000, 8, 0.5
    lineages, place, log_estimate = Lineages(sets, size, strength, potential), torch.zeros(sets * size), torch.zeros(sets)
    resampled = 0
    for turn in range(3):
        place = place + torch.randn(sets * size)
        lineages.judge(place, last=turn == 2)
        weight = lineages.weight_SK.logsumexp(1) - math.log(size)
        rows = lineages.resample(torch.rand(sets), threshold)
        due = (lineages.weight_SK == 0).all(1) & (turn < 2)
        log_estimate = log_estimate + torch.where(due | torch.tensor(turn == 2), weight, 0.0)
        resampled += int(due.sum())
        place = place[rows]
    estimate = log_estimate.exp()
    error = estimate.std() / sets**0.5
    assert (estimate.mean() - math.exp(3 * strength**2 / 2)).abs() < 4 * error
    assert error < 0.04
    assert (resampled > 0) == (threshold > 0)


def test_weights_are_kept_where_nothing_is_resampled():
    lineages = Lineages(1, 2, 1.0, "sum")
    for reward in (0.1, 0.2):
        lineages.judge(torch.tensor([reward, 0.0]))
        assert lineages.resample(torch.tensor([0.5]), 0.5).tolist() == [0, 1]
    assert lineages.weight_SK[0, 0].item() == pytest.approx(0.1 + 0.3)


def test_systematic_resampling_gives_each_particle_its_share_of_places():
    share = torch.tensor([0.5, 0.26, 0.14, 0.1])
    counts = torch.zeros(4)
    for k in range(100):
        lineages = Lineages(1, 4, 1.0, "difference")
        lineages.weight_SK = share.double().log()[None]
        rows = lineages.resample(torch.tensor([(k + 0.5) / 100]), 1.0)
        count = torch.bincount(rows, minlength=4)
        assert (count >= (4 * share).floor()).all()
        assert (count <= (4 * share).ceil()).all()
        assert lineages.weight_SK.abs().max() == 0
        counts += count
    assert torch.allclose(counts / 100, 4 * share, atol=0.02)


def test_a_set_resamples_only_where_its_effective_sample_size_falls_below_the_threshold():
    lineages = Lineages(2, 4, 1.0, "difference")
    lineages.judge(torch.tensor([0.0, 0.1, 0.0, 0.1, 0.0, 9.0, 0.0, 0.0]))
    assert lineages.resample(torch.tensor([0.5, 0.5]), 0.5).tolist() == [0, 1, 2, 3, 5, 5, 5, 5]
    assert lineages.weight_SK[0].tolist() == pytest.approx([0.0, 0.1, 0.0, 0.1])


def test_a_judgement_that_broke_leaves_its_weight_as_it_was():
    lineages = Lineages(1, 2, 3.0, "difference")
    lineages.judge(torch.tensor([0.2, 0.1]))
    lineages.judge(torch.tensor([float("nan"), 0.5]))
    assert lineages.weight_SK[0].tolist() == pytest.approx([0.6, 1.5])


def test_equal_rewards_leave_independent_rollouts():
    room = studio(plain)
    rollouts, lineages = FkSteering(by=judges(constant=True), size=6).particles(room, ONE)
    plan = Plan(sigmas=room.plan.sigmas, kernel=FlowSde(noise=0.7), noisy=(0, 1, 2, 3))
    x = room.noise(ONE * 6, range(6))
    wanted = rollout(plain, plan, x, lambda step: room.noise(ONE * 6, range(6), step)).x0
    assert torch.allclose(torch.stack([made.made.tensor.flatten() for made in rollouts]), wanted, atol=1e-6)  # type: ignore[union-attr]
    assert lineages.weight_SK.abs().max() == 0


def test_one_particle_is_a_plain_noisy_rollout():
    one = FkSteering(by=judges(), size=1)
    [steered] = one.steer(studio(plain), ONE)
    [[same], _] = one.particles(studio(plain), ONE)
    assert steered.made is not None
    assert same.made is not None
    assert torch.equal(steered.made.tensor, same.made.tensor)


@pytest.mark.parametrize("potential", POTENTIALS)
def test_weighted_particles_have_the_mean_of_the_tilted_distribution(potential):
    """N(0, WIDTH^2) times exp(-strength |x - WANTED|^2) is a Gaussian."""
    strength = 4.0
    steer = FkSteering(by=judges(), size=1500, strength=strength, potential=potential, first=8, every=8)
    room = studio(plain, steps=20)
    rollouts, lineages = steer.particles(room, ONE)
    lineages.judge(room.judge(steer.by, rollouts).total, last=True)
    places = torch.stack([made.made.tensor.flatten() for made in rollouts]).double()  # type: ignore[union-attr]
    mean = (lineages.weight_SK.softmax(1).T * places).sum(0)
    pull = 2 * strength * WIDTH**2
    assert torch.allclose(mean, WANTED.double() * pull / (1 + pull), atol=0.04)


def test_copies_of_a_particle_part_again_and_the_best_is_handed_out():
    steer = FkSteering(by=judges(), size=8, strength=50.0, first=2, every=1)
    room = studio(plain)
    rollouts, _ = steer.particles(room, ONE)
    assert len({tuple(made.made.tensor.flatten().tolist()) for made in rollouts}) == 8  # type: ignore[union-attr]
    [chosen] = steer.steer(room, ONE)
    scores = [Close().one(made)[0] for made in rollouts]
    assert Close().one(chosen)[0] == max(scores)


def test_it_costs_one_pass_a_step_and_one_judgement_a_particle_at_each_place():
    room, samples = studio(plain, batch=8), [Sample(id=str(i), prompt="a") for i in range(3)]
    steered = FkSteering(by=judges(), size=4, first=1, every=2).steer(room, samples)
    assert room.spent == {"passes": 3 * 4 * 5, "judged": 3 * 4 * 3}  # before steps 1 and 3, and the ends
    assert [rollout.sample.id for rollout in steered] == ["0", "1", "2"]


def test_no_sample_depends_on_those_beside_it():
    samples = [Sample(id=str(i), prompt="a") for i in range(3)]
    many, alone = (FkSteering(by=judges(), size=4).steer(studio(plain, batch=batch), samples) for batch in (64, 1))
    for a, b in zip(many, alone, strict=True):
        assert a.made is not None
        assert b.made is not None
        assert torch.allclose(a.made.tensor, b.made.tensor, atol=1e-6)


def test_steps_without_noise_and_rewards_on_text_are_refused():
    from vlreward.rewards.boxes import BoxIoU

    with pytest.raises(ConfigError, match="kernel: is 'ode', along which copies of a particle never part again"):
        FkSteering(by=judges(), kernel=Ode())
    with pytest.raises(ConfigError, match=r"by\.0\.kind: is 'box_iou', which judges text"):
        FkSteering(by=Composite([Term(name="b", weight=1.0, reward=BoxIoU())]))


def test_velocities_that_were_judged_by_are_not_computed_again_and_stay_with_their_particles(monkeypatch):
    steer = FkSteering(by=judges(), size=8, strength=50.0)
    once = [rollout.made for rollout in steer.particles(studio(plain), ONE)[0]]
    monkeypatch.setattr("vlreward.flow.steer.fk_steering.answered", lambda v, velocity: velocity)
    twice = [rollout.made for rollout in steer.particles(studio(plain), ONE)[0]]
    assert all(a is not None and b is not None and torch.allclose(a.tensor, b.tensor, atol=1e-6) for a, b in zip(once, twice, strict=True))
