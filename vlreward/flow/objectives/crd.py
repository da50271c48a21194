"""CRD: the model's own implicit reward is fitted to the judged one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlreward.flow.collect import Batch
from vlreward.flow.objectives.forward import ComparedGroups, error, over_groups
from vlreward.flow.rollout import Velocity
from vlreward.registry import register


@register("crd")
@dataclass(kw_only=True)
class Crd(ComparedGroups):
    """(rho - mean_group rho - A)^2, a term a renoised rollout, with the implicit reward rho = strength (l_ref - l).

    l is the flow-matching error as the mean over dimensions: rho is how much better the live weights match a rollout than the reference
    does. Both sides are centred in the group, so the intractable constant cancels, and a rollout is pushed only until its implicit
    reward is what it should be. With `advantage: {kind: group, std: none}` A is the centred reward itself. At the reference the loss is
    the variance of A, and equal rewards give no gradient.
    Known failure: with a small `strength` the target is far away and the fit never ends, which is an unbounded push.
    Source: arXiv 2603.14128 (Centered Reward Distillation); its weighting of errors by their own size and its divergence to a guided
    reference are left out: `beta` is to the base as it samples here.
    """

    def matching(self, v: torch.Tensor, velocity: Velocity, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        implicit = self.strength * (error(velocity(batch.x, batch.s, self.reference), batch) - error(v, batch))
        mean = over_groups(implicit, batch.group) / over_groups(torch.ones_like(implicit), batch.group)
        fit = (implicit - mean - batch.advantage).square().mean()
        return fit / self.strength, {"implicit/spread": (implicit - mean).abs().mean().item()}
