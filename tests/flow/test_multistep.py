"""DPM-Solver++(2M) after the window, and fewer steps there: MixGRPO-Flash."""

import itertools
import math

import pytest
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from gaussian import WIDTH, gaussian_velocity, learned

from vlreward.config import parse
from vlreward.errors import ConfigError
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.math import sigmas
from vlreward.flow.objectives.flow_grpo import FlowGrpo
from vlreward.flow.objectives.tempflow_grpo import TempflowGrpo
from vlreward.flow.plan import Plan
from vlreward.flow.rollout import completed, rollout
from vlreward.flow.sampler import Sampler

MEAN = torch.tensor([0.1, -0.2, 0.3])
VELOCITY = gaussian_velocity(MEAN)


def sampler(**keys) -> Sampler:
    return parse(Sampler, {"kernel": "flow_sde", "steps": 25, **keys}, "sampler")


def quiet(grid: torch.Tensor, x: torch.Tensor, **plan) -> torch.Tensor:
    return rollout(VELOCITY, Plan(sigmas=grid, kernel=Ode(), **plan), x, lambda step: x).x0


@pytest.mark.parametrize("steps", [4, 9, 20])
def test_it_steps_as_diffusers_solver_does(steps):
    scheduler = DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0)
    scheduler.set_timesteps(steps)
    torch.manual_seed(0)
    x = start = torch.randn(4, 3)
    for step, time in enumerate(scheduler.timesteps):
        x = scheduler.step(VELOCITY(x, scheduler.sigmas[step].expand(4)), time, x, return_dict=False)[0]
    assert torch.allclose(quiet(scheduler.sigmas, start, multistep=0), x, atol=1e-5)
    assert not torch.allclose(quiet(scheduler.sigmas, start), x, atol=1e-3)


def test_its_error_falls_with_the_square_of_the_steps_where_eulers_falls_with_them():
    """Between 0.9 and 0.1; to 0 and from 1 it is Euler's."""
    z, ends = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)).double(), torch.tensor([0.9, 0.1], dtype=torch.float64)
    start, exact = ((1 - s) * MEAN + ((1 - s) ** 2 * WIDTH**2 + s**2).sqrt() * z for s in ends)
    grids = [torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64) for steps in (80, 160, 320)]
    for solver, least, most in ((None, 1.8, 2.2), (0, 3.6, 4.4)):
        errors = [(quiet(grid, start, multistep=solver) - exact).abs().max().item() for grid in grids]
        assert all(least < coarse / fine < most for coarse, fine in itertools.pairwise(errors)), errors


@pytest.mark.parametrize(("window", "slide", "compress"), [(4, 3, 0.4), (1, 1, 0.2), (8, 5, 1.0), (4, 100, 0.01)])
def test_a_rollout_takes_the_steps_up_to_the_windows_end_and_a_share_of_the_rest(window, slide, compress):
    part, grid = sampler(window=window, slide=slide, compress=compress, tail="multistep"), sigmas(25, shift=3.0)
    for epoch in range(0, 120, 7):
        plan = part.plan(grid, epoch, 7)
        end = plan.noisy[-1] + 1
        assert plan.noisy[0] == min(epoch // slide, 24 - window)
        assert plan.steps == end + math.ceil(round((25 - end) * compress, 6))
        assert plan.multistep == end
        assert torch.equal(plan.sigmas[: end + 1], grid[: end + 1]), "nothing is left out before the window's end"
        assert plan.sigmas[-1] == 0
        assert (plan.sigmas.diff() < 0).all()
        asked: list[float] = []

        def counted(x, s, policy="train", asked=asked):
            asked.append(s[0].item())
            return VELOCITY(x, s)

        rollout(counted, plan, torch.zeros(2, 3), lambda step: torch.ones(2, 3))
        assert asked == plan.sigmas[:-1].tolist()


def test_steps_that_are_left_keep_even_places_on_the_grid():
    grid = torch.linspace(1, 0, 11)
    assert sampler(steps=10, window=2, window_from=0, compress=0.5).plan(grid, 0, 7).sigmas.tolist() == pytest.approx(
        [1, 0.9, 0.8, 0.6, 0.4, 0.2, 0]
    )
    uneven = sampler(steps=10, window=2, window_from=0, compress=0.3).plan(grid, 0, 7)
    assert uneven.sigmas.tolist() == pytest.approx([1, 0.9, 0.8, 0.8 * 2 / 3, 0.8 / 3, 0])


def test_a_completion_goes_on_as_the_rollout_does():
    plan = sampler(steps=10, window=2, window_from=1, tail="multistep", compress=0.5).plan(sigmas(10), 0, 7)
    x = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    still = Plan(sigmas=plan.sigmas, kernel=Ode(), multistep=plan.multistep)
    assert torch.equal(completed(VELOCITY, plan, x, 0), rollout(VELOCITY, still, x, lambda step: x).x0)
    assert not torch.equal(completed(VELOCITY, plan, x, 0), quiet(plan.sigmas, x))


def test_the_step_after_a_branch_begins_the_tail():
    plan = TempflowGrpo().plan(sampler(tail="multistep"), sigmas(25), 3, 7)
    assert plan.branch is not None
    assert plan.multistep == plan.branch + 1


def test_a_plan_with_noise_under_the_multistep_solver_is_impossible():
    with pytest.raises(AssertionError, match="has no noise"):
        Plan(sigmas=sigmas(4), kernel=FlowSde(), noisy=(0, 2), multistep=1)


def test_a_share_of_no_window_is_refused():
    with pytest.raises(ConfigError, match=r"add sampler\.window") as error:
        sampler(compress=0.4)
    assert error.value.key == "sampler.compress"


def test_what_a_short_tail_leaves_of_learning():
    assert (
        learned(FlowGrpo(clip=1e-2), FlowSde(), epochs=40, steps=8, share_noise=True, window=3, slide=10, tail="multistep", compress=0.4)
        < 0.3
    )
