"""One epoch's rollouts: the attempts that rewards judge and the transitions that an objective learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from vlreward.data.media import Clip, Picture
from vlreward.flow.kernels.base import Kernel
from vlreward.flow.math import interpolate, wide
from vlreward.flow.plan import Noise, Plan, seeded
from vlreward.flow.rollout import Trajectory, Velocity, rollout
from vlreward.types import Rollout, Sample

Bind = Callable[[Sequence[str]], Velocity]
"""Prompts -> the velocity that is conditioned on them."""
Decode = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """What an objective's loss sees: B transitions of one denoising step.

    Of a forward process (see Plan.renoised), x is the rollout's end noised to s, and the transition leads to that end: x_next at s_next
    0. The velocity that goes there is `straight`.
    """

    prompts: Sequence[str]
    step: int
    kernel: Kernel
    x: torch.Tensor
    """[B,*]"""
    x_next: torch.Tensor
    """[B,*]"""
    s: torch.Tensor
    """[B]"""
    s_next: torch.Tensor
    """[B]"""
    log_prob: torch.Tensor
    """[B] when it was sampled"""
    advantage: torch.Tensor
    """[B] float32"""
    weight: torch.Tensor
    """[B] float32"""

    @property
    def straight(self) -> torch.Tensor:
        """[B,*] the velocity that leads from x to x_next in a straight line; eps - x0 of a renoised rollout."""
        return (self.x - self.x_next) / wide(self.s - self.s_next, self.x)


@dataclass
class Collected:
    """B rollouts in micro-batches that training visits as they were sampled: the same rows at the same places give the same floats, so
    the policy ratio is exactly 1 until the first update."""

    plan: Plan
    rollouts: list[Rollout]
    parts: list[Trajectory]
    """One a micro-batch."""
    noise: Noise
    keys: list[tuple[int, int, int]]
    """(epoch, group, member) of each rollout: what its noise is keyed by."""
    advantage_BS: torch.Tensor | None = None
    weight_BS: torch.Tensor | None = None
    """Both set by the objective's `credit`."""

    @property
    def group_B(self) -> torch.Tensor:
        """[B] int64"""
        return torch.tensor([rollout.group for rollout in self.rollouts], dtype=torch.int64)

    def updates(self, count: int, generator: torch.Generator) -> Iterator[list[Batch]]:
        """The batches of each of `count` optimiser steps: a part of the rollouts with all of its trained steps, in random order.

        Trained steps are the plan's, and after them its renoised levels, drawn anew from [k, k+1) / renoised for each rollout.
        """
        assert len(self.parts) % count == 0, f"{len(self.parts)} micro-batches cannot be shared among {count} updates"
        order = torch.randperm(len(self.parts), generator=generator).tolist()
        share = len(self.parts) // count
        for u in range(count):
            items = [(part, j) for part in order[u * share : (u + 1) * share] for j in range(self.plan.trained)]
            yield [self._batch(*items[k]) for k in torch.randperm(len(items), generator=generator).tolist()]

    def _batch(self, part: int, j: int) -> Batch:
        assert self.advantage_BS is not None, "credit comes before updates"
        assert self.weight_BS is not None, "credit sets weights too"
        trajectory, plan = self.parts[part], self.plan
        size, device = len(trajectory.x0), trajectory.x0.device
        rows = slice(part * size, (part + 1) * size)
        if j < len(plan.train):
            step = plan.train[j]
            x, x_next, log_prob = trajectory.x[:, j], trajectory.x_next[:, j], trajectory.log_prob[:, j]
            s, s_next = (plan.sigmas[k].to(device).expand(size) for k in (step, step + 1))
        else:
            step, level = plan.steps, j - len(plan.train)
            x_next, s_next, log_prob = trajectory.x0, torch.zeros(size, device=device), torch.zeros(size, device=device)
            keys = [(*key, "renoised", level) for key in self.keys[rows]]
            s = (level + torch.cat([self.noise.uniform(*key) for key in keys])).to(device) / plan.renoised
            x = interpolate(x_next, self.noise.batch(x_next.shape[1:], keys).to(device), s)
        return Batch(
            prompts=[rollout.sample.prompt for rollout in self.rollouts[rows]],
            step=step,
            kernel=plan.kernel,
            x=x,
            x_next=x_next,
            s=s,
            s_next=s_next,
            log_prob=log_prob,
            advantage=self.advantage_BS[rows, j].float().to(device),
            weight=self.weight_BS[rows, j].float().to(device),
        )


def visual(made: torch.Tensor) -> Picture | Clip:
    """A decoded [3,H,W] or [F,3,H,W] as what rewards judge."""
    return Picture(made) if made.ndim == 3 else Clip(made)


@torch.no_grad()
def collect(
    bind: Bind, decode: Decode, plan: Plan, shape: Sequence[int], samples: Sequence[Sample], noise: Noise, *,
    epoch: int, size: int, micro_batch: int, device: str = "cpu", done: Callable[[int], None] = lambda count: None,
) -> Collected:  # fmt: skip
    """`size` rollouts of each sample, which makes a group; group ids count on over epochs.

    Rows are laid into micro-batches in an order that follows from seed and epoch, so that each holds a mixture of groups. Their noise
    is keyed by group and member: no rollout depends on the order. `done` hears of each finished micro-batch.
    """
    rows = [(group, member) for group in range(len(samples)) for member in range(size)]
    assert len(rows) % micro_batch == 0, f"{len(rows)} rollouts are not a multiple of the micro-batch {micro_batch}"
    order = torch.randperm(len(rows), generator=seeded(noise.seed, "rows", epoch)).tolist()
    collected = Collected(plan=plan, rollouts=[], parts=[], noise=noise, keys=[])
    for first in range(0, len(rows), micro_batch):
        chosen = [rows[k] for k in order[first : first + micro_batch]]
        start = [(epoch, group, 0 if plan.share_noise else member, -1) for group, member in chosen]

        def eps(step: int, chosen: list[tuple[int, int]] = chosen) -> torch.Tensor:
            return noise.batch(shape, [(epoch, group, member, step) for group, member in chosen]).to(device)

        velocity = bind([samples[group].prompt for group, _ in chosen])
        trajectory = rollout(velocity, plan, noise.batch(shape, start).to(device), eps)
        pictures = decode(trajectory.x0).cpu()
        collected.parts.append(trajectory)
        collected.keys += [(epoch, group, member) for group, member in chosen]
        collected.rollouts += [
            Rollout(sample=samples[group], made=visual(made), group=epoch * len(samples) + group)
            for (group, _), made in zip(chosen, pictures, strict=True)
        ]
        done(len(chosen))
    return collected
