"""The stochastic step of DanceGRPO."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlreward.config import NotNegative
from vlreward.flow.kernels.base import Kernel, Step
from vlreward.flow.math import wide
from vlreward.registry import register


@register("dance")
@dataclass(kw_only=True)
class Dance(Kernel):
    """Euler-Maruyama step of the SDE that shares the ODE's marginals, with the same diffusion g = noise at every s.

    Nothing is infinite at s = 1. The noise of a step, noise * sqrt(s - s_next), does not fall towards the end, so that a noisy last
    step leaves more of it in the picture than any other kernel does; the published code decodes the x0 predicted there instead, which
    is what `last_step: ode` does. Source: DanceGRPO (arXiv 2505.07818); 0.3 is its choice for FLUX, 0.25 for video.
    """

    noise: NotNegative = 0.3

    def __call__(self, x: torch.Tensor, v: torch.Tensor, s: torch.Tensor, s_next: torch.Tensor) -> Step:
        dt = s_next - s
        drift = wide(self.noise**2 / (2 * s) * dt, x)
        mean = x * (1 + drift) + v * (wide(dt, x) + drift * wide(1 - s, x))
        return Step(mean, wide(self.noise * (-dt).sqrt(), x))
