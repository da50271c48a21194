"""Held-out pictures, made the same way at any time: the ODE, and noise that belongs to the prompt's sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from vlreward.flow.collect import Bind, Decode, visual
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.plan import Noise, Plan
from vlreward.flow.rollout import rollout
from vlreward.types import Rollout, Sample


def plan(grid: torch.Tensor, guidance: float, policy: str = "train") -> Plan:
    """The ODE along a grid, with these weights."""
    return Plan(sigmas=grid, kernel=Ode(), guidance=guidance, policy=policy)


def start(shape: Sequence[int], samples: Sequence[Sample], seed: int) -> torch.Tensor:
    """[B,*] starting noise, which follows from the seed and each sample's id."""
    return Noise(seed).batch(shape, [("held out", sample.id) for sample in samples])


@torch.no_grad()
def held_out(
    bind: Bind, decode: Decode, plan: Plan, shape: Sequence[int], samples: Sequence[Sample], *,
    seed: int, batch: int, device: str = "cpu", done: Callable[[int], None] = lambda count: None,
) -> list[Rollout]:  # fmt: skip
    """One picture per sample. The last batch is filled up, so that every forward pass has the same shape."""
    rollouts: list[Rollout] = []
    for first in range(0, len(samples), batch):
        chosen = list(samples[first : first + batch])
        filled = chosen + [chosen[-1]] * (batch - len(chosen))
        velocity = bind([sample.prompt for sample in filled])
        x0 = rollout(velocity, plan, start(shape, filled, seed).to(device), lambda step: torch.empty(0)).x0
        pictures = decode(x0)[: len(chosen)].cpu()
        pairs = enumerate(zip(chosen, pictures, strict=True), start=first)
        rollouts += [Rollout(sample=sample, made=visual(made), group=group) for group, (sample, made) in pairs]
        done(len(chosen))
    return rollouts
