"""Kernels against the ODE, a Gaussian whose velocity is known exactly, torch.distributions and autograd. S-numbers name the invariant."""

import itertools
import math

import pytest
import torch

from vlreward.flow.kernels.base import Step, kl
from vlreward.flow.kernels.cps import Cps
from vlreward.flow.kernels.dance import Dance
from vlreward.flow.kernels.ddim_flow import DdimFlow
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.math import sigmas

MEAN, DEVIATION = 1.5, 0.5
"""Of the data in the Gaussian oracle."""


def oracle(s: float) -> tuple[float, float]:
    """k, c of the exact velocity v = k x + c for data N(MEAN, DEVIATION^2)."""
    variance = (1 - s) ** 2 * DEVIATION**2 + s**2
    k = (s - (1 - s) * DEVIATION**2) / variance
    return k, -MEAN - k * (1 - s) * MEAN


def affine(kernel, s: torch.Tensor, s_next: torch.Tensor) -> tuple[float, float, float]:
    """a, b, std of x_next = a x + b + std eps under the oracle's velocity."""
    k, c = oracle(s.item())
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    step = kernel(x, k * x + c, s.expand(2), s_next.expand(2))
    b, a = step.mean[0].item(), (step.mean[1] - step.mean[0]).item()
    return a, b, step.std.flatten()[0].item()


def terminal(kernel, steps: int, shift: float = 1.0) -> tuple[float, float]:
    """Mean and standard deviation of x at s = 0, by arithmetic, starting from N(0, 1)."""
    grid = sigmas(steps, shift=shift).double()
    mean, variance = 0.0, 1.0
    for s, s_next in itertools.pairwise(grid):
        a, b, std = affine(kernel, s, s_next)
        mean, variance = a * mean + b, a * a * variance + std**2
    return mean, math.sqrt(variance)


def transition(batch: int = 6, dims: int = 11, start: bool = False):
    torch.manual_seed(0)
    s = torch.ones(batch) if start else torch.rand(batch) * 0.5 + 0.4
    return torch.randn(batch, dims), torch.randn(batch, dims), s, s - torch.rand(batch) * 0.3 - 0.05


@pytest.mark.parametrize("first", ["exact", "published"])
@pytest.mark.parametrize("start", [False, True])
def test_without_noise_the_sde_is_the_ode(first, start):
    """S2"""
    x, v, s, s_next = transition(start=start)
    step = FlowSde(noise=0.0, first=first)(x, v, s, s_next)
    assert torch.allclose(step.mean, Ode()(x, v, s, s_next).mean, atol=1e-6)
    assert step.std.abs().max() == 0


@pytest.mark.parametrize("steps", [6, 10, 40])
def test_gaussian_data_keeps_its_mean_at_any_number_of_steps(steps):
    """S3"""
    for kernel in (Ode(), FlowSde(noise=0.7), FlowSde(noise=0.7, first="published")):
        assert terminal(kernel, steps)[0] == pytest.approx(MEAN, abs=1e-6)


@pytest.mark.parametrize("kernel", [Ode(), FlowSde(noise=0.7), FlowSde(noise=0.7, first="published")])
def test_gaussian_data_keeps_its_width_as_steps_grow(kernel):
    """S3: all tend to the same limit, the data's own width."""
    assert terminal(kernel, 160)[1] == pytest.approx(DEVIATION, abs=0.012)
    assert terminal(kernel, 640)[1] == pytest.approx(DEVIATION, abs=0.004)


@pytest.mark.parametrize(
    ("kernel", "steps", "shift", "wanted"),
    [(Ode(), 10, 1.0, 0.431), (Ode(), 10, 3.0, 0.370), (FlowSde(noise=0.7, first="published"), 10, 1.0, 0.480),
     (FlowSde(noise=0.7, first="published"), 10, 3.0, 0.424), (FlowSde(noise=0.7, first="published"), 6, 1.0, 0.466)],
)  # fmt: skip
def test_terminal_widths_are_the_known_ones(kernel, steps, shift, wanted):
    """S3: worked out once with an independent program."""
    assert terminal(kernel, steps, shift)[1] == pytest.approx(wanted, abs=6e-4)


@pytest.mark.parametrize("a", [0.7, 0.9, 1.2])
def test_published_first_step_widens_the_noise_whatever_the_grid(a):
    """S3b: from N(0, 1), with a velocity that does not depend on x, std is sqrt(1 + a^4 / 4)."""
    for s_next in (0.5, 0.875, 0.99):
        one, after = torch.ones(2), torch.full((2,), s_next)
        x = torch.tensor([[0.0], [1.0]])
        step = FlowSde(noise=a, first="published")(x, torch.zeros(2, 1), one, after)
        slope = (step.mean[1] - step.mean[0]).item()
        assert math.sqrt(slope**2 + step.std[0].item() ** 2) == pytest.approx(math.sqrt(1 + a**4 / 4), abs=1e-5)


def test_published_cap_sets_the_first_step():
    step = FlowSde(noise=0.7, first="published", cap=0.99)(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1), torch.tensor([0.9]))
    assert step.std.item() == pytest.approx(0.7 * math.sqrt(100 * 0.1), rel=1e-5)


def test_exact_first_step_has_the_true_marginal():
    """S3b: over data and noise, x_next is N((1 - s') m, (1 - s')^2 q^2 + s'^2); only the part of x0 that v knows shrinks it."""
    point = 2.0
    s_next = torch.full((2,), 0.8)
    x = torch.tensor([[0.0], [1.0]])
    step = FlowSde(noise=0.7)(x, x - point, torch.ones(2), s_next)
    slope = (step.mean[1] - step.mean[0]).item()
    assert math.sqrt(slope**2 + step.std[0].item() ** 2) == pytest.approx(0.8, abs=1e-6)
    assert step.mean[0].item() == pytest.approx(0.2 * point, abs=1e-6)


def test_log_probability_is_the_mean_of_the_normal_distribution():
    """S5"""
    x, v, s, s_next = transition()
    step = FlowSde(noise=0.7)(x, v, s, s_next)
    x_next = step.sample(torch.randn_like(x))
    wanted = torch.distributions.Normal(step.mean, step.std.expand_as(x)).log_prob(x_next).mean(1)
    assert torch.allclose(step.log_prob(x_next), wanted, atol=1e-6)


def test_gradient_of_the_log_probability_is_the_known_one():
    """S7: d logp / d v = k / (std D) eps with k = dt (1 + noise^2 / 2)."""
    x, v, s, s_next = transition()
    v.requires_grad_(True)
    eps = torch.randn_like(x)
    kernel = FlowSde(noise=0.7)
    x_next = kernel(x, v, s, s_next).sample(eps).detach()
    step = kernel(x, v, s, s_next)
    step.log_prob(x_next).sum().backward()
    k = ((s_next - s) * (1 + 0.7**2 / 2))[:, None]
    assert v.grad is not None
    assert torch.allclose(v.grad, k / (step.std * x.shape[1]) * eps, atol=1e-6)


def test_divergence_has_three_equal_forms():
    """S8"""
    x, v, s, s_next = transition()
    kernel, other = FlowSde(noise=0.7), v + 0.1 * torch.randn_like(v)
    p, q = kernel(x, v, s, s_next), kernel(x, other, s, s_next)
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(normal(p.mean, p.std.expand_as(x)), normal(q.mean, q.std.expand_as(x))).mean(1)
    g = 0.7 * (s / (1 - s)).sqrt()
    of_velocities = (s - s_next) / 2 * (g * (1 - s) / (2 * s) + 1 / g) ** 2 * ((v - other) ** 2).mean(1)
    assert torch.allclose(kl(p, q, s, s_next), wanted, rtol=1e-4)
    assert torch.allclose(kl(p, q, s, s_next), of_velocities, rtol=1e-4)
    assert torch.allclose(kl(p, q, s, s_next, "flow_grpo"), wanted * (s - s_next), rtol=1e-4)


def test_sample_is_the_mean_plus_scaled_noise():
    step = Step(torch.full((2, 3), 4.0), torch.tensor(0.5))
    assert torch.equal(step.sample(torch.ones(2, 3)), torch.full((2, 3), 4.5))


OTHERS = (Dance, Cps, DdimFlow)


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("start", [False, True])
def test_without_noise_every_kernel_is_the_ode(kind, start):
    """S2"""
    x, v, s, s_next = transition(start=start)
    step = kind(noise=0.0)(x, v, s, s_next)
    assert torch.allclose(step.mean, Ode()(x, v, s, s_next).mean, atol=1e-6)
    assert step.std.abs().max() == 0


@pytest.mark.parametrize("kernel", [Dance(), Cps(), DdimFlow(noise=1.0)])
@pytest.mark.parametrize("steps", [6, 40])
def test_every_kernel_keeps_the_mean_of_gaussian_data(kernel, steps):
    """S3"""
    assert terminal(kernel, steps)[0] == pytest.approx(MEAN, abs=1e-6)


@pytest.mark.parametrize("kernel", [Dance(), DdimFlow(noise=1.0)])
def test_width_of_gaussian_data_comes_back_as_steps_grow(kernel):
    """S3"""
    assert terminal(kernel, 160)[1] == pytest.approx(DEVIATION, abs=0.012)
    assert terminal(kernel, 640)[1] == pytest.approx(DEVIATION, abs=0.004)


@pytest.mark.parametrize(
    ("kernel", "steps", "shift", "wanted"),
    [(Dance(noise=0.3), 10, 1.0, 0.442), (Dance(noise=0.3), 10, 3.0, 0.385), (Dance(noise=0.3), 40, 3.0, 0.469),
     (Cps(noise=0.7), 10, 1.0, 0.370), (Cps(noise=0.7), 40, 3.0, 0.392), (Cps(noise=0.9), 6, 1.0, 0.309),
     (DdimFlow(noise=1.0), 10, 1.0, 0.386), (DdimFlow(noise=1.0), 40, 3.0, 0.431)],
)  # fmt: skip
def test_terminal_widths_of_the_other_kernels_are_the_known_ones(kernel, steps, shift, wanted):
    """S3: worked out once with an independent program."""
    assert terminal(kernel, steps, shift)[1] == pytest.approx(wanted, abs=6e-4)


@pytest.mark.parametrize(("noise", "wanted"), [(0.7, 0.425), (0.9, 0.379)])
def test_cps_narrows_gaussian_data_however_many_the_steps(noise, wanted):
    """S4: its own noise does not shrink with a step's length."""
    assert terminal(Cps(noise=noise), 2560)[1] == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("grid", ["linspace", "native"])
@pytest.mark.parametrize("kernel", [Cps(noise=0.7), Cps(noise=1.0), DdimFlow(noise=1.0)])
def test_a_single_picture_gets_exactly_the_noise_of_each_level(kernel, grid):
    """S4: for point-mass data x_next is N((1 - s') x0, s'^2) at every step, which no Euler-Maruyama step gives."""
    point, variance = 2.0, 1.0
    steps = sigmas(10, grid=grid, shift=3.0).double()
    for s, s_next in itertools.pairwise(steps):
        x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        step = kernel(x, (x - point) / s, s.expand(2), s_next.expand(2))
        slope = (step.mean[1] - step.mean[0]).item()
        variance = slope**2 * variance + step.std.flatten()[0].item() ** 2
        assert variance == pytest.approx(s_next.item() ** 2, abs=1e-12)
    wide = Dance(noise=0.7)(torch.zeros(1, 1), torch.zeros(1, 1), torch.tensor([0.25]), torch.zeros(1))
    assert wide.std.item() == pytest.approx(0.35)


def test_dance_step_is_the_formula_with_the_predicted_data():
    x, v, s, s_next = transition()
    eta, dt = 0.4, (s_next - s)[:, None]
    x0, at = x - s[:, None] * v, s[:, None]
    step = Dance(noise=eta)(x, v, s, s_next)
    assert torch.allclose(step.mean, x + v * dt + 0.5 * eta**2 * dt * (x - (1 - at) * x0) / at**2, atol=1e-6)
    assert torch.allclose(step.std, eta * (-dt).sqrt())


def test_coefficients_of_the_noise_add_up():
    """CPS: (std / s')^2 + (share of the predicted noise)^2 = 1."""
    for noise in (0.3, 0.7, 1.0):
        step = Cps(noise=noise)(torch.zeros(2, 1), torch.tensor([[0.0], [1.0]]), torch.ones(2), torch.full((2,), 0.6))
        x0_part = step.mean[1].item() - step.mean[0].item()
        assert x0_part == pytest.approx(-0.4)
        noisy = Cps(noise=noise)(torch.ones(1, 1), torch.ones(1, 1), torch.ones(1), torch.full((1,), 0.6))
        assert noisy.mean.item() ** 2 + noisy.std.item() ** 2 == pytest.approx(0.36, abs=1e-6)


def test_published_log_probability_of_cps_is_the_density_without_its_variance():
    x, v, s, s_next = transition()
    x_next = torch.randn_like(x)
    density, squared = (Cps(log_prob=how)(x, v, s, s_next) for how in ("density", "squared"))
    other_density, other_squared = (Cps(log_prob=how)(x, v + 0.1, s, s_next) for how in ("density", "squared"))
    ratio, published = (a.log_prob(x_next) - b.log_prob(x_next) for a, b in ((other_density, density), (other_squared, squared)))
    assert torch.allclose(published, 2 * density.std.flatten() ** 2 * ratio, atol=1e-6)
