"""The deterministic Euler step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from vlreward.flow.kernels.base import Kernel, Step
from vlreward.flow.math import wide
from vlreward.registry import register


@register("ode")
@dataclass(kw_only=True)
class Ode(Kernel):
    """x + v (s_next - s): what diffusers' flow-matching Euler scheduler does. No noise, no log-probabilities."""

    stochastic: ClassVar[bool] = False

    def __call__(self, x: torch.Tensor, v: torch.Tensor, s: torch.Tensor, s_next: torch.Tensor) -> Step:
        return Step(x + wide(s_next - s, x) * v, torch.zeros((), device=x.device))
