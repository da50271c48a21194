"""The Gaussian transition of one denoising step, and what a kernel is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from vlreward.flow.math import clean, noise, wide

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Step:
    """x_next ~ N(mean, std^2 I); a std of 0 is a deterministic step."""

    mean: torch.Tensor
    """[B,*] float32"""
    std: torch.Tensor
    """broadcastable to `mean`"""
    density: bool = True
    """False: `log_prob` leaves out 1 / (2 std^2) and all that does not depend on the mean."""

    def sample(self, eps: torch.Tensor) -> torch.Tensor:
        """x_next for standard normal noise eps [B,*]."""
        return self.mean + self.std * eps

    def log_prob(self, x_next: torch.Tensor) -> torch.Tensor:
        """[B] log density of x_next, as the *mean* over the dimensions of x.

        The mean makes the policy ratio the density ratio to the power 1/dimensions, which is what published clip ranges of 1e-3 to 1e-6
        refer to (Flow-GRPO, arXiv 2505.05470, and its code).
        """
        if not self.density:
            return -((x_next - self.mean) ** 2).flatten(1).mean(1)
        each = -((x_next - self.mean) ** 2) / (2 * self.std**2) - torch.log(self.std) - HALF_LOG_TWO_PI
        return each.flatten(1).mean(1)


@dataclass(kw_only=True)
class Kernel:
    """Base of all kernels: a step's mean and standard deviation from the model's velocity."""

    family: ClassVar[str] = "kernels"
    kind: ClassVar[str]
    stochastic: ClassVar[bool] = True
    """False: steps are deterministic and have no log-probabilities."""
    vanishing_end: ClassVar[bool] = False
    """True: a step to s_next = 0 has no noise, and so no log-probability."""

    def __call__(self, x: torch.Tensor, v: torch.Tensor, s: torch.Tensor, s_next: torch.Tensor) -> Step:
        """x, v [B,*] float32; s > s_next, both [B]."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")


def renoised(x: torch.Tensor, v: torch.Tensor, s: torch.Tensor, s_next: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """[B,*] mean of a step that adds noise of size std [B] to (1 - s_next) x0 + sqrt(s_next^2 - std^2) eps, both as v predicts them."""
    kept = (s_next**2 - std**2).clamp(min=0).sqrt()
    return wide(1 - s_next, x) * clean(x, v, s) + wide(kept, x) * noise(x, v, s)


def kl(p: Step, q: Step, s: torch.Tensor, s_next: torch.Tensor, units: Literal["true", "flow_grpo"] = "true") -> torch.Tensor:
    """[B] KL divergence of two steps with the same std, mean over dimensions: |mean_p - mean_q|^2 / (2 std^2).

    `flow_grpo` multiplies it by s - s_next, which is what that code's divergence amounts to (it leaves the step's length out of the
    variance); its published weights, such as 0.04, are meant in these units.
    """
    divergence = (((p.mean - q.mean) ** 2) / (2 * p.std**2)).flatten(1).mean(1)
    return divergence * (s - s_next) if units == "flow_grpo" else divergence
