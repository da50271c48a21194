"""Figures that show a run going wrong before its reward does, and the check that starts every run."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vlreward.flow.collect import Bind, Collected
from vlreward.flow.kernels.ode import Ode
from vlreward.types import RewardTable, Rollout


def diversity(rollouts: Sequence[Rollout]) -> float:
    """Mean distance of two pictures of one group, as root mean square over pixels in [0, 1]; falls towards 0 where a policy collapses."""
    groups: dict[int, list[torch.Tensor]] = {}
    for rollout in rollouts:
        assert rollout.made is not None, "a rollout of a generator has a picture"
        groups.setdefault(rollout.group, []).append(rollout.made.tensor.flatten())
    distances = []
    for members in groups.values():
        pixels = torch.stack(members)
        distances.append(torch.pdist(pixels).mean() / pixels.shape[1] ** 0.5)
    return torch.stack(distances).mean().item()


def saturation(rollouts: Sequence[Rollout]) -> float:
    """Mean difference between a pixel's largest and smallest channel, in [0, 1]; climbs where a policy learns garish colours."""
    values = [r.made.tensor.amax(-3) - r.made.tensor.amin(-3) for r in rollouts if r.made is not None]
    return torch.stack([value.mean() for value in values]).mean().item()


def reward_figures(table: RewardTable) -> dict[str, float]:
    """reward/<name> and reward/total, means over the rollouts that have one, and how many judgements broke."""
    means = {f"reward/{name}": table.scores[:, column].nanmean().item() for column, name in enumerate(table.names)}
    figures = means | {"reward/total": table.total.nanmean().item(), "broken": float(table.broken.sum())}
    return {name: value for name, value in figures.items() if value == value}


def self_check(bind: Bind, collected: Collected) -> str:
    """One line on what must hold before the first update: the ratio of a sampled step computed again with gradients is 1, and the
    noiseless kernel is the ODE."""
    collected.advantage_BS = torch.zeros(len(collected.rollouts), collected.plan.trained)
    collected.weight_BS = torch.ones_like(collected.advantage_BS)
    facts = []
    if collected.plan.train:
        batch = next(collected.updates(1, torch.Generator()))[0]
        v = bind(batch.prompts)(batch.x, batch.s).detach()
        ratio = (batch.kernel(batch.x, v, batch.s, batch.s_next).log_prob(batch.x_next) - batch.log_prob).exp()
        deviation = (ratio - 1).abs().max().item()
        facts.append("ratio exactly 1" if deviation == 0 else f"ratio 1 up to {deviation:.1e}")
        if hasattr(batch.kernel, "noise"):
            silent = type(batch.kernel)(**{**vars(batch.kernel), "noise": 0.0})
            gap = silent(batch.x, v, batch.s, batch.s_next).mean - Ode()(batch.x, v, batch.s, batch.s_next).mean
            facts.append(f"noise 0 is the ODE up to {gap.abs().max().item():.1e}")
    return "; ".join(facts)
