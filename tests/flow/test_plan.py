import pytest
import torch

from vlreward.config import parse
from vlreward.errors import ConfigError
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.plan import Noise, Plan
from vlreward.flow.sampler import Sampler


def sampler(**keys) -> Sampler:
    return parse(Sampler, {"kernel": "flow_sde", "steps": 8, **keys}, "sampler")


def test_noise_depends_on_its_key_alone():
    """S11"""
    noise = Noise(7)
    first = noise((4, 3), 0, 1, 2, -1)
    torch.randn(100)
    assert torch.equal(first, noise((4, 3), 0, 1, 2, -1))
    assert torch.equal(noise.batch((4, 3), [(0, 0, 0, 0), (0, 1, 2, -1)])[1], first)


def test_noise_differs_in_every_part_of_its_key():
    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0, 0, 0, -1), (0, 0, 0), (10, 0, 0, 0), (1, 0, 0, 0, 0)]
    tensors = [Noise(7)((5,), *key) for key in keys] + [Noise(8)((5,), 0, 0, 0, 0)]
    assert len({tuple(tensor.tolist()) for tensor in tensors}) == len(tensors)


def test_noise_is_standard_normal():
    values = Noise(1).batch((100,), [(i,) for i in range(100)])
    assert values.mean().abs() < 0.05
    assert abs(values.std() - 1) < 0.05


def test_all_steps_but_the_last_are_noisy_and_trained():
    plan = sampler().plan(torch.linspace(1, 0, 9), 0, 7)
    assert plan.noisy == plan.train == tuple(range(7))
    assert sampler(last_step="kernel").plan(torch.linspace(1, 0, 9), 0, 7).noisy == tuple(range(8))


def test_window_is_drawn_anew_each_epoch_and_follows_from_the_seed():
    part, grid = sampler(window=3), torch.linspace(1, 0, 9)
    windows = [part.plan(grid, epoch, 7).train for epoch in range(60)]
    assert windows == [part.plan(grid, epoch, 7).train for epoch in range(60)]
    assert {window[0] for window in windows} == set(range(5))
    assert all(window == tuple(range(window[0], window[0] + 3)) for window in windows)


def test_window_can_be_kept_to_the_first_steps():
    """Flow-GRPO-Fast: the start is drawn from [0, T/2 - w]."""
    part, grid = sampler(window=2, window_until=4), torch.linspace(1, 0, 9)
    assert {part.plan(grid, epoch, 7).train[0] for epoch in range(60)} == {0, 1, 2}
    assert sampler(window=2, window_until=4, slide=1).plan(grid, 50, 7).train == (2, 3)


def test_window_can_stay_in_one_place():
    part, grid = sampler(window=3, window_from=2), torch.linspace(1, 0, 9)
    assert {part.plan(grid, epoch, 7).train for epoch in range(5)} == {(2, 3, 4)}


def test_window_slides_from_the_first_steps_to_the_last_and_stays():
    """MixGRPO: l = min(epoch // tau, steps - w)."""
    part, grid = sampler(window=3, slide=4), torch.linspace(1, 0, 9)
    starts = [part.plan(grid, epoch, 7).train[0] for epoch in range(40)]
    assert starts == [min(epoch // 4, 4) for epoch in range(40)]
    assert sampler(window=3, slide=4, window_from=2).plan(grid, 4, 7).train == (3, 4, 5)
    whole = sampler(window=7, slide=1)
    assert {whole.plan(grid, epoch, 7).train for epoch in range(9)} == {sampler().plan(grid, 0, 7).train}


def test_a_share_of_the_noisy_steps_is_trained_drawn_anew_each_epoch():
    """DanceGRPO: floor(0.6 (steps - 1)), never the last."""
    part, grid = sampler(trained=0.6), torch.linspace(1, 0, 9)
    plans = [part.plan(grid, epoch, 7) for epoch in range(60)]
    assert all(len(plan.train) == 4 and plan.noisy == tuple(range(7)) for plan in plans)
    assert all(plan.train == tuple(sorted(plan.train)) for plan in plans)
    assert {step for plan in plans for step in plan.train} == set(range(7))
    assert plans[3].train == part.plan(grid, 3, 7).train
    assert len({plan.train for plan in plans}) > 10
    assert len(sampler(trained=0.01).plan(grid, 0, 7).train) == 1


def test_deterministic_kernel_has_nothing_to_train_on():
    assert sampler(kernel="ode").plan(torch.linspace(1, 0, 9), 0, 7).train == ()
    with pytest.raises(AssertionError, match="no transitions"):
        Plan(sigmas=torch.linspace(1, 0, 3), kernel=Ode(), noisy=(0,), train=(0,))


def test_a_step_that_is_not_noisy_cannot_be_trained():
    with pytest.raises(AssertionError, match="out of range"):
        Plan(sigmas=torch.linspace(1, 0, 3), kernel=FlowSde(), noisy=(0,), train=(1,))


def test_sampler_reads_and_writes_one_flat_mapping():
    part = sampler(noise=0.5, guidance=2.0)
    assert isinstance(part.kernel, FlowSde)
    assert (part.kernel.noise, part.schedule.guidance) == (0.5, 2.0)
    assert parse(Sampler, part.to_tree(), "sampler").to_tree() == part.to_tree()


@pytest.mark.parametrize(
    ("keys", "key", "words"),
    [
        ({"noize": 0.5}, "sampler.noize", "Did you mean 'noise'"),
        ({"step": 5}, "sampler.step", "Did you mean 'steps'"),
        ({"kernel": "flow_sed"}, "sampler.kernel", "Did you mean 'flow_sde'"),
        ({"kernel": "ode", "noise": 0.5}, "sampler.noise", "unknown key"),
        ({"noise": -1}, "sampler.noise", "at least 0"),
        ({"steps": 1}, "sampler.steps", "at least 2"),
        ({"window": 8}, "sampler.window", "at most the 7"),
        ({"window": 4, "window_from": 4}, "sampler.window", "after step 4"),
        ({"window_from": 2}, "sampler.window_from", "add sampler.window"),
        ({"slide": 2}, "sampler.slide", "add sampler.window"),
        ({"window_until": 2}, "sampler.window_until", "add sampler.window"),
        ({"window": 3, "window_until": 2}, "sampler.window", "at most the 2"),
        ({"trained": 0}, "sampler.trained", "more than 0"),
        ({"kernel": "cps", "last_step": "kernel"}, "sampler.last_step", "no noise to train on"),
        ({"kernel": "cps", "noise": 1.5}, "sampler.noise", "at most 1"),
        ({"grid": "karras"}, "sampler.grid", "'linspace', 'native'"),
    ],
)
def test_mistakes_in_the_sampler_are_named(keys, key, words):
    with pytest.raises(ConfigError) as error:
        sampler(**keys)
    assert error.value.key == key
    assert words in error.value.problem
