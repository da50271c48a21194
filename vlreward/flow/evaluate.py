"""Held-out pictures, made the same way at any time: the ODE, and noise that belongs to the prompt's sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from vlreward.flow.collect import Bind, Decode, visual
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.plan import Noise, Plan, seed_of
from vlreward.flow.rollout import rollout
from vlreward.types import Rollout, Sample


def plan(grid: torch.Tensor, guidance: float, policy: str = "train") -> Plan:
    """The ODE along a grid, with these weights."""
    return Plan(sigmas=grid, kernel=Ode(), guidance=guidance, policy=policy)


def start(shape: Sequence[int], samples: Sequence[Sample], seed: int, members: Sequence[int] | None = None) -> torch.Tensor:
    """[B,*] starting noise, which follows from the seed and each sample's id, and from the member where a sample has several pictures."""
    keys = zip(samples, members or [0] * len(samples), strict=True)
    return Noise(seed).batch(shape, [("held out", sample.id, *([member] if member else [])) for sample, member in keys])


def recipe(samples: Sequence[Sample], seed: int) -> list[dict[str, str | int]]:
    """What any diffusers pipeline needs to start from the same noise: each sample's id, prompt, and the seed of its own torch.Generator."""
    return [{"id": sample.id, "prompt": sample.prompt, "seed": seed_of(seed, "held out", sample.id)} for sample in samples]


@torch.no_grad()
def held_out(
    bind: Bind, decode: Decode, plan: Plan, shape: Sequence[int], samples: Sequence[Sample], *,
    seed: int, batch: int, device: str = "cpu", each: int = 1, done: Callable[[list[Rollout]], None] = lambda rollouts: None,
    share: Callable[[list[int]], list[int]] = lambda batches: batches,
) -> list[Rollout]:  # fmt: skip
    """`each` pictures per sample, side by side; `done` hears of each batch. The last is filled up, so that all passes have one shape.

    `share` chooses some of the batches, each given as its first picture's number.
    """
    rollouts: list[Rollout] = []
    rows = [(group, member) for group in range(len(samples)) for member in range(each)]
    for first in share(list(range(0, len(rows), batch))):
        chosen = rows[first : first + batch]
        filled = chosen + [chosen[-1]] * (batch - len(chosen))
        asked, members = [samples[group] for group, _ in filled], [member for _, member in filled]
        velocity = bind(asked)
        x0 = rollout(velocity, plan, start(shape, asked, seed, members).to(device), lambda step: torch.empty(0)).x0
        pictures = decode(x0)[: len(chosen)].cpu()
        pairs = zip(chosen, pictures, strict=True)
        drawn = [Rollout(sample=samples[group], made=visual(made), group=group) for (group, _), made in pairs]
        rollouts += drawn
        done(drawn)
    return rollouts
