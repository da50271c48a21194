"""A generator of Gaussian pictures whose velocity is known exactly: what objectives learn on here has a best answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vlreward.advantages.group import GroupAdvantage
from vlreward.flow.collect import Batch, Collected, Judge, collect
from vlreward.flow.kernels.base import Kernel
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.math import interpolate, sigmas
from vlreward.flow.objectives.base import Objective
from vlreward.flow.plan import Noise, Plan
from vlreward.flow.processes import Processes
from vlreward.flow.sampler import Sampler, Schedule
from vlreward.flow.steer.base import Studio
from vlreward.rewards.base import Reward
from vlreward.rewards.composite import Composite, Term
from vlreward.types import RewardOutput, RewardTable, Rollout, Sample

WIDTH = 0.3
"""Standard deviation of the data."""
WANTED = torch.tensor([0.4, -0.3, 0.2])
"""Where the reward of `learned` is highest."""


def gaussian_velocity(mean: torch.Tensor, **others: torch.Tensor):
    """The exact velocity of data N(mean, WIDTH^2); other named weights have means of their own, by default this one."""

    def velocity(x: torch.Tensor, s: torch.Tensor, policy: str = "train") -> torch.Tensor:
        s = s[:, None]
        k = (s - (1 - s) * WIDTH**2) / ((1 - s) ** 2 * WIDTH**2 + s**2)
        at = mean if policy == "train" else others.get(policy, mean).detach()
        return k * (x - (1 - s) * at) - at

    return velocity


def transitions(kernel: Kernel, velocity, advantage: Sequence[float], s: float = 0.6, s_next: float = 0.4) -> Batch:
    """Of one step, sampled with `velocity`; four dimensions."""
    torch.manual_seed(0)
    size = len(advantage)
    x, at, after = torch.randn(size, 4), torch.full((size,), s), torch.full((size,), s_next)
    step = kernel(x, velocity(x, at).detach(), at, after)
    x_next = step.sample(torch.randn_like(x))
    return Batch(
        prompts=[""] * size, step=1, kernel=kernel, x=x, x_next=x_next, s=at, s_next=after, log_prob=step.log_prob(x_next),
        advantage=torch.tensor(advantage), weight=torch.ones(size), group=torch.zeros(size, dtype=torch.int64), mean=step.mean,
    )  # fmt: skip


def ends(advantage: Sequence[float], group: Sequence[int] | None = None) -> Batch:
    """Renoised ends of rollouts, the same level and noise in a group; four dimensions."""
    torch.manual_seed(0)
    size = len(advantage)
    of = torch.tensor(group if group is not None else [0] * size)
    x0, s, eps = torch.randn(size, 4), torch.linspace(0.2, 0.9, 8)[of], torch.randn(8, 4)[of]
    return Batch(
        prompts=[""] * size, step=4, kernel=Ode(), x=interpolate(x0, eps, s), x_next=x0, s=s, s_next=torch.zeros(size),
        log_prob=torch.zeros(size), advantage=torch.tensor(advantage), weight=torch.ones(size), group=of,
    )  # fmt: skip


def decode(x0: torch.Tensor) -> torch.Tensor:
    return x0[:, :, None, None].expand(-1, 3, 1, 1)


def collected_from(
    objective: Objective, velocity, kernel: Kernel, epoch: int = 0, size: int = 24, micro_batch: int = 24, **schedule
) -> Collected:
    """Rollouts of two groups, made as the objective plans."""
    sampler = Sampler(kernel=kernel, schedule=Schedule(**({"steps": 5} | schedule)))
    plan = objective.plan(sampler, sigmas(sampler.schedule.steps), epoch, 0)
    samples = [Sample(id=str(i), prompt=str(i)) for i in range(2)]
    return collect(lambda prompts: velocity, decode, plan, (3,), samples, Noise(1), epoch=epoch, size=size, micro_batch=micro_batch)


def table_of(scores: Sequence[float], errors: Sequence[str | None] = ()) -> RewardTable:
    output = RewardOutput(scores=torch.tensor(scores, dtype=torch.float64), errors=list(errors))
    return RewardTable(names=("r",), weights=torch.ones(1, dtype=torch.float64), scores=output.scores[:, None], outputs={"r": output})


def closeness(rollouts: Sequence[Rollout]) -> RewardTable:
    """Minus the squared distance from WANTED."""
    scores = []
    for rollout in rollouts:
        assert rollout.made is not None
        scores.append(-((rollout.made.tensor.flatten() - WANTED) ** 2).sum())
    scores = torch.stack(scores).double()
    output = RewardOutput(scores=scores)
    return RewardTable(names=("r",), weights=torch.ones(1, dtype=torch.float64), scores=scores[:, None], outputs={"r": output})


def shuffled(rollouts: Sequence[Rollout]) -> RewardTable:
    """The rewards of `closeness`, handed to the wrong rollouts."""
    torch.manual_seed(len(rollouts) + int(1e6 * abs(rollouts[0].made.tensor.sum().item())))  # type: ignore[union-attr]
    return closeness(rollouts).reordered(torch.randperm(len(rollouts)).tolist())


def learned(
    objective: Objective, kernel: Kernel, epochs: int = 30, lr: float = 0.03, updates: int = 1, judge: Judge = closeness, **schedule
) -> float:
    """Share of the squared distance from WANTED that is left after training the mean of the Gaussian."""
    point = torch.nn.Parameter(torch.zeros(3))
    named = {name: torch.zeros(3) for name in objective.policies}

    class Named:
        def update(self, name: str, decay: float = 0.0) -> None:
            named[name] = decay * named[name] + (1 - decay) * point.detach().clone()

    objective.prepare((3,), lambda prompts: {"words": torch.ones(len(prompts), 2)}, Processes("cpu"), 0)
    optimizer = torch.optim.Adam([point], lr=lr)
    for epoch in range(epochs):
        velocity = gaussian_velocity(point, **named)
        collected = collected_from(objective, velocity, kernel, epoch, **schedule)
        table = objective.score(collected, judge)
        objective.credit(collected, table, GroupAdvantage())
        objective.choose(collected, table)
        for batches in collected.updates(updates, torch.Generator().manual_seed(epoch)):
            optimizer.zero_grad()
            for batch in batches:
                (objective.loss(velocity, batch).value / len(batches)).backward()
            optimizer.step()
        objective.after_epoch(Named(), epoch)  # type: ignore[arg-type]
    return (((point - WANTED) ** 2).sum() / (WANTED**2).sum()).item()


@dataclass(kw_only=True)
class Close(Reward):
    """Minus the squared distance from WANTED, and a note on it. In (-inf, 0]."""

    needs = ("visual",)
    bounds = (-math.inf, 0.0)
    constant: bool = False
    """Everything scores 0."""
    broken_above: float = math.inf
    """Judging breaks on pictures whose first channel is larger."""

    def one(self, rollout: Rollout) -> tuple[float, str]:
        assert rollout.made is not None
        x = rollout.made.tensor.flatten()
        if x[0] > self.broken_above:
            raise RuntimeError("the judge broke")
        return 0.0 if self.constant else -((x - WANTED) ** 2).sum().item(), f"first channel {x[0]:+.1f}"


def judges(**settings) -> Composite:
    return Composite([Term(name="close", weight=1.0, reward=Close(**settings))])


def studio(velocity, steps: int = 5, batch: int = 64) -> Studio:
    """Makes pictures of the Gaussian along the ODE."""
    plan = Plan(sigmas=sigmas(steps), kernel=Ode())
    return Studio(bind=lambda prompts: velocity, decode=decode, plan=plan, shape=(3,), seed=1, batch=batch)
