"""The stochastic step of Flow-GRPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch

from vlreward.config import Bound, NotNegative
from vlreward.flow.kernels.base import Kernel, Step, renoised
from vlreward.flow.math import wide
from vlreward.registry import register


@register("flow_sde")
@dataclass(kw_only=True)
class FlowSde(Kernel):
    """Euler-Maruyama step of the SDE that shares the ODE's marginals, with diffusion g = noise * sqrt(s / (1 - s)).

    Source: Flow-GRPO (arXiv 2505.05470), equation 9 and sd3_sde_with_logprob.py of yifan123/flow_grpo. noise 0 is the ODE; 0.7 is the
    paper's choice; above sqrt(2) it is beyond the largest variance that the process allows.
    """

    noise: NotNegative = 0.7
    first: Literal["exact", "published"] = "exact"
    """What to do at s = 1, where g is infinite. `published` puts `cap` for s into 1 - s, which widens the noise to
    sqrt(1 + noise^4 / 4) whatever the number of steps. `exact` draws from the true marginal's transition with the same std (at most
    s_next): (1 - s_next) x0 + sqrt(s_next^2 - std^2) x."""
    cap: Annotated[float, Bound(0, 1, above=True)] | None = None
    """Of `first: published`; none is the grid's second sigma, as in the published code."""

    def __call__(self, x: torch.Tensor, v: torch.Tensor, s: torch.Tensor, s_next: torch.Tensor) -> Step:
        start = s >= 1
        cap = s_next if self.cap is None else torch.full_like(s, self.cap)
        dt = s_next - s
        g_squared = self.noise**2 * s / (1 - torch.where(start, cap, s))
        drift = wide(g_squared / (2 * s) * dt, x)
        mean = x * (1 + drift) + v * (wide(dt, x) + drift * wide(1 - s, x))
        std = (g_squared * -dt).sqrt()
        if self.first == "exact":
            limit = torch.minimum(torch.full_like(s, self.noise), s_next)
            mean = torch.where(wide(start, x), renoised(x, v, s, s_next, limit), mean)
            std = torch.where(start, limit, std)
        return Step(mean, wide(std, x))
