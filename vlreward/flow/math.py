"""Flow matching in five formulas, and the sigma grid.

x = (1 - s) x0 + s eps with eps ~ N(0, I): s = 1 is noise, s = 0 is data. The model predicts v = eps - x0 = dx/ds, and the ODE dx/ds = v
runs from s = 1 to s = 0. Every `s` is [B] or a scalar; x, v are [B,*].
"""

from __future__ import annotations

import math
from typing import Literal

import torch

Grid = Literal["linspace", "native"]
"""Which base grid the shift is applied to; see `sigmas`."""
TRAIN_STEPS = 1000
"""diffusers' num_train_timesteps: a transformer's `timestep` is 1000 s, and the native grid ends at shift(1/1000)."""


def sigmas(
    steps: int, *, grid: Grid = "linspace", shift: float | None = None, mu: float | None = None, terminal: float | None = None
) -> torch.Tensor:
    """[steps+1] float32 falling from 1 to 0.

    `linspace` starts from 1, ..., 1/steps, the grid that FLUX's and Qwen's pipelines hand to the scheduler. `native` starts from
    1, ..., shift(1/1000), what diffusers' SD3 pipeline uses when it is given no sigmas; the shift is then applied to it a second time.
    `shift` is the static s u / (1 + (s-1) u), `mu` the dynamic e^mu / (e^mu + 1/u - 1); at most one of them.
    `terminal` stretches the grid so that the last sigma before 0 is this one (Qwen-Image: 0.02, LTX: 0.1).
    Source: diffusers, FlowMatchEulerDiscreteScheduler.set_timesteps.
    """
    assert shift is None or mu is None, "a sigma grid takes a shift or a mu, not both"

    def shifted(u: torch.Tensor) -> torch.Tensor:
        if mu is not None:
            return math.exp(mu) / (math.exp(mu) + (1 / u - 1))
        return u if shift is None else shift * u / (1 + (shift - 1) * u)

    low = torch.tensor(1 / TRAIN_STEPS, dtype=torch.float64)
    end = 1 / steps if grid == "linspace" else (low if mu is not None else shifted(low)).item()
    base = torch.linspace(1, end, steps, dtype=torch.float64)
    grown = shifted(base)
    if terminal is not None:
        grown = 1 - (1 - grown) * (1 - terminal) / (1 - grown[-1])
    return torch.cat([grown, torch.zeros(1, dtype=torch.float64)]).float()


def wide(s: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`s` [B] (or scalar) laid out to multiply x [B,*]."""
    return s.reshape(-1, *[1] * (x.ndim - 1)) if s.ndim else s


def interpolate(x0: torch.Tensor, eps: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """The noisy x at s."""
    s = wide(s, x0)
    return (1 - s) * x0 + s * eps


def clean(x: torch.Tensor, v: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """The data x0 that v predicts."""
    return x - wide(s, x) * v


def noise(x: torch.Tensor, v: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """The noise eps that v predicts."""
    return x + (1 - wide(s, x)) * v


def score(x: torch.Tensor, v: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """Gradient of the log density of x at s, as v predicts it: -eps / s."""
    return -noise(x, v, s) / wide(s, x)


def multistep(
    x: torch.Tensor, x0: torch.Tensor, s: torch.Tensor, s_next: torch.Tensor, last: tuple[torch.Tensor, torch.Tensor] | None
) -> torch.Tensor:
    """[B,*] x at s_next by DPM-Solver++(2M): Euler towards an x0 that is extrapolated from this prediction and the `last` one.

    `x0` is what v predicts at s, `last` that of the step before and its s. Second order in the steps' lengths; without a `last`, and to
    s_next 0 or from a last s of 1 (both infinite in log signal to noise), it is Euler's step.
    Source: arXiv 2211.01095, algorithm 2; with alpha = 1 - s and sigma = s its first-order step is Euler's.
    """
    if last is not None:
        before, s_last = last
        there, now, then = (torch.log((1 - level) / level) for level in (s_next, s, s_last))
        share = torch.where((s_next > 0) & (s_last < 1), (there - now) / (2 * (now - then)), 0.0)
        x0 = x0 + wide(share, x) * (x0 - before)
    kept = wide(s_next / s, x)
    return kept * x + (1 - kept) * x0


def compressed(grid: torch.Tensor, first: int, share: float) -> torch.Tensor:
    """The grid [steps+1] with the steps from `first` on replaced by ceil(share * their number), laid evenly over their places."""
    count = math.ceil(share * (len(grid) - 1 - first) - 1e-9)
    places = first + torch.arange(1, count + 1, dtype=torch.float64) * (len(grid) - 1 - first) / max(count, 1)
    low = places.floor().long().clamp(max=len(grid) - 2)
    part = (places - low).float()
    return torch.cat([grid[: first + 1], grid[low] * (1 - part) + grid[low + 1] * part])
