import pytest
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from vlreward.flow.math import clean, interpolate, noise, score, sigmas


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
@pytest.mark.parametrize("steps", [4, 10, 40])
def test_both_grids_equal_the_scheduler_of_diffusers(steps, shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    assert torch.allclose(sigmas(steps, grid="native", shift=shift), torch.as_tensor(scheduler.sigmas), atol=1e-6)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / steps, steps).tolist())
    assert torch.allclose(sigmas(steps, grid="linspace", shift=shift), torch.as_tensor(scheduler.sigmas), atol=1e-6)


def test_dynamic_shift_equals_the_scheduler_of_diffusers():
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    scheduler.set_timesteps(6, mu=0.8)
    assert torch.allclose(sigmas(6, grid="native", mu=0.8), torch.as_tensor(scheduler.sigmas), atol=1e-6)


def test_a_terminal_sigma_equals_the_scheduler_of_diffusers():
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / 6, 6).tolist(), mu=0.8)
    assert torch.allclose(sigmas(6, mu=0.8, terminal=0.02), torch.as_tensor(scheduler.sigmas), atol=1e-6)
    assert sigmas(6, mu=0.8, terminal=0.02)[-2].item() == pytest.approx(0.02)


def test_the_two_grids_end_differently():
    native, linspace = sigmas(10, grid="native", shift=3.0), sigmas(10, grid="linspace", shift=3.0)
    assert native[-2].item() == pytest.approx(0.0089, abs=1e-4)
    assert linspace[-2].item() == pytest.approx(0.25, abs=1e-4)


def test_clean_and_noise_undo_interpolation():
    x0, eps, s = torch.randn(5, 4, 3, 3), torch.randn(5, 4, 3, 3), torch.rand(5)
    x, v = interpolate(x0, eps, s), eps - x0
    assert torch.allclose(clean(x, v, s), x0, atol=1e-6)
    assert torch.allclose(noise(x, v, s), eps, atol=1e-6)


def test_three_forms_of_the_score_agree():
    """S1"""
    x, v, s = torch.randn(64, 7).double(), torch.randn(64, 7).double(), torch.rand(64).double() * 0.9 + 0.05
    wide = s[:, None]
    expanded = -x / wide - ((1 - wide) / wide) * v
    from_clean = -(x - (1 - wide) * clean(x, v, s)) / wide**2
    assert torch.allclose(score(x, v, s), expanded, atol=1e-6)
    assert torch.allclose(score(x, v, s), from_clean, atol=1e-6)
