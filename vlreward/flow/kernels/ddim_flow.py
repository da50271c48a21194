"""The stochastic DDIM step, for flow matching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from vlreward.config import Bound
from vlreward.flow.kernels.base import Kernel, Step, renoised
from vlreward.flow.math import wide
from vlreward.registry import register


@register("ddim_flow")
@dataclass(kw_only=True)
class DdimFlow(Kernel):
    """(1 - s_next) x0 + sqrt(s_next^2 - std^2) eps + std z with std = noise * s_next * sqrt(1 - (s_next (1 - s) / (s (1 - s_next)))^2).

    noise 0 is the ODE and 1 the most that is possible: then x_next depends on x through the predicted x0 and the part of the noise that
    the shorter way to s_next keeps. The step's noise shrinks with its length, so the marginals tend to the ODE's as steps grow, and a
    last step leaves none in the picture. Source: DiffusionNFT (arXiv 2509.16117), appendix B.1, equation 16.
    """

    vanishing_end: ClassVar[bool] = True
    noise: Annotated[float, Bound(0, 1)] = 0.7

    def __call__(self, x: torch.Tensor, v: torch.Tensor, s: torch.Tensor, s_next: torch.Tensor) -> Step:
        kept = s_next * (1 - s) / (s * (1 - s_next))
        std = self.noise * s_next * (1 - kept**2).clamp(min=0).sqrt()
        return Step(renoised(x, v, s, s_next, std), wide(std, x))
