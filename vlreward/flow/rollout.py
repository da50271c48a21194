"""The only denoising loop of the package."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from vlreward.flow.kernels.base import Step
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.math import clean, multistep
from vlreward.flow.plan import Drift, Plan


class Follow(Protocol):
    """Goes back from trained steps while they are sampled (see `while_sampling`)."""

    def follow(self, j: int, step: Step, x_next: torch.Tensor) -> None:
        """`x_next` [B,*], without a gradient, was drawn from the plan's trained step number j, which has one."""
        ...


class Velocity(Protocol):
    """A model bound to its conditions, guidance and weights: all that a loop or a loss may know of it."""

    def __call__(self, x: torch.Tensor, s: torch.Tensor, policy: str = "train") -> torch.Tensor:
        """v [B,*] float32 at x [B,*] and s [B]; weights other than `train` give no gradient."""
        ...


@dataclass(frozen=True)
class Trajectory:
    """What is left of B denoising runs: the clean end and the transitions at the plan's trained steps, in their order."""

    x0: torch.Tensor
    """[B,*]"""
    x: torch.Tensor
    """[B,S,*] before the step"""
    x_next: torch.Tensor
    """[B,S,*] after it"""
    log_prob: torch.Tensor
    """[B,S] of x_next, computed on the stored value"""
    mean: torch.Tensor
    """[B,S,*] of the distribution x_next was drawn from; [B,0] unless the plan keeps means"""
    restart: torch.Tensor
    """[B,*] before the step that the plan restarts at; [B,0] without one"""
    unconditional: torch.Tensor | None = None
    """[B,S,*] the unconditional velocity at x, where there was one"""


def rollout(
    velocity: Velocity, plan: Plan, x: torch.Tensor, eps: Callable[[int], torch.Tensor], first: int = 0, drift: Drift | None = None,
    learner: Follow | None = None,
) -> Trajectory:  # fmt: skip
    """Denoise x [B,*] along the plan from its step `first` on; `eps(i)` is the noise [B,*] of step i, asked for at noisy steps only.

    `drift` pushes the plan's guided steps. Trained steps have a gradient for a `learner`, and for nobody else.
    """
    ode, batch = Ode(), len(x)
    nothing = restart = x.new_zeros(batch, 0)
    last: tuple[torch.Tensor, torch.Tensor] | None = None
    before, after, log_prob, means, halves = [], [], [], [], []
    for i in range(first, plan.steps):
        s, s_next = (plan.sigmas[k].to(x.device).expand(batch) for k in (i, i + 1))
        restart = x if i == plan.restart else restart
        followed = learner is not None and i in plan.train
        with torch.enable_grad() if followed else contextlib.nullcontext():
            v = velocity(x, s, plan.policy)
            step = (plan.kernel_at(i) if i in plan.noisy else ode)(x, v, s, s_next)
        if plan.multistep is not None and i >= plan.multistep:
            x0 = clean(x, v, s)
            x, last = multistep(x, x0, s, s_next, last), (x0, s)
            continue
        if i not in plan.noisy:
            x = step.mean
            continue
        x_next = step.sample(eps(i))
        if learner is not None and followed:
            x_next = x_next.detach()
            learner.follow(plan.train.index(i), step, x_next)
            step = replace(step, mean=step.mean.detach())
        if drift is not None and i in plan.guided:
            x_next = x_next + drift(x, s, s_next)
        if i in plan.train:
            before.append(x)
            after.append(x_next)
            log_prob.append(step.log_prob(x_next))
            means += [step.mean] * plan.means
            halves.append(None if followed else getattr(velocity, "unconditional", None))
        x = x_next
    if not before:
        return Trajectory(x, nothing, nothing, nothing, nothing, restart)
    mean = torch.stack(means, 1) if means else nothing
    known = torch.stack(halves, 1) if all(half is not None for half in halves) else None
    return Trajectory(x, torch.stack(before, 1), torch.stack(after, 1), torch.stack(log_prob, 1), mean, restart, known)


def completed(velocity: Velocity, plan: Plan, x: torch.Tensor, step: int) -> torch.Tensor:
    """[B,*] the clean end of x [B,*] before a step of the plan, by the ODE along the plan's remaining sigmas and with its solver."""
    later = None if plan.multistep is None else max(0, plan.multistep - step)
    rest = Plan(sigmas=plan.sigmas[step:], kernel=Ode(), policy=plan.policy, multistep=later)
    return rollout(velocity, rest, x, lambda i: torch.empty(0)).x0
