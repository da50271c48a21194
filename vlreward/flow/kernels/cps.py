"""Coefficients-preserving sampling: a stochastic step that leaves no surplus noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch

from vlreward.config import Bound
from vlreward.flow.kernels.base import Kernel, Step, renoised
from vlreward.flow.math import wide
from vlreward.registry import register


@register("cps")
@dataclass(kw_only=True)
class Cps(Kernel):
    """(1 - s_next) x0 + s_next (cos a eps + sin a z), with the predicted x0 and eps, new noise z, and a = noise * pi / 2.

    The noise in x_next has exactly the size s_next whatever was sampled, so pictures stay clean at any `noise`. The step's own noise
    does not shrink with its length: unlike the SDE kernels this one does not tend to the ODE's marginals as steps grow, but to narrower
    ones. Source: FlowCPS (arXiv 2509.05952); 0.7 to 0.8 with a clip of 1e-5 and `log_prob: squared` in flow_grpo's fast recipes.
    """

    vanishing_end: ClassVar[bool] = True
    noise: Annotated[float, Bound(0, 1)] = 0.7
    log_prob: Literal["density", "squared"] = "density"
    """`squared` is -(x_next - mean)^2, as published code has it, which makes log-ratios 2 std^2 times as large as those of the density;
    published clip ranges for this kernel are meant so."""

    def __call__(self, x: torch.Tensor, v: torch.Tensor, s: torch.Tensor, s_next: torch.Tensor) -> Step:
        std = s_next * math.sin(self.noise * math.pi / 2)
        return Step(renoised(x, v, s, s_next, std), wide(std, x), density=self.log_prob == "density")
