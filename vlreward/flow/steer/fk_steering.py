"""FK steering: several rollouts of a prompt as particles, which a reward weighs and resamples on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import torch

from vlreward.config import Bound, Count, Fraction, NotNegative
from vlreward.errors import ConfigError
from vlreward.flow.kernels.base import Kernel
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.math import clean
from vlreward.flow.plan import Noise
from vlreward.flow.rollout import Velocity, rollout
from vlreward.flow.steer.base import Done, Judged, Studio, best
from vlreward.registry import register
from vlreward.types import Rollout, Sample

Potential = Literal["difference", "max", "sum"]


@register("fk_steering")
@dataclass(kw_only=True)
class FkSteering(Judged):
    """`size` particles a sample; at some steps the picture that each predicts is judged, and the promising ones take others' places.

    The target is the model's distribution times exp(strength * reward). On the way a particle's weight grows by a potential: the gain
    of its reward since it was last judged (`difference`), or exp(strength * the highest, the sum of its rewards so far) (`max`, `sum`),
    which the last judgement takes back, so that along every lineage the potentials' product is exp(strength * reward of its end).
    Log-weights are kept until the effective sample size falls below `threshold` of the particles; then systematic resampling puts
    them to zero. Noisy steps let copies of one particle part again. The best one of the end is handed out.
    A judgement that broke leaves its particle's weight as it is.
    Known failure: with a large `strength` all particles are soon copies of one; early predictions are blurred, and a judge that cannot
    read them resamples at random.
    Source: arXiv 2501.06848 (FK steering): strength 2 to 10, 4 particles, judged every fifth of the steps. Its code drops the weights
    of a step at which it does not resample; here they are kept.
    """

    size: Count = 4
    strength: NotNegative = 10.0
    """lambda of the paper."""
    potential: Potential = "difference"
    first: Annotated[int, Bound(0)] = 1
    """First step before which predictions are judged; before step 0 nothing but noise is there."""
    every: Count = 2
    """Steps from one judgement to the next; the finished pictures are always judged."""
    threshold: Fraction = 0.5
    kernel: Kernel = field(default_factory=lambda: FlowSde(noise=0.7))
    """Of all steps but the last."""

    def __post_init__(self):
        super().__post_init__()
        if not self.kernel.stochastic:
            raise ConfigError(f"is {self.kernel.kind!r}, along which copies of a particle never part again; use 'flow_sde'", "kernel")

    def steer(self, studio: Studio, samples: Sequence[Sample], done: Done = lambda count: None) -> list[Rollout]:
        chosen: list[Rollout] = []
        for part in studio.batches(samples, self.size):
            rollouts, lineages = self.particles(studio, part)
            table = studio.judge(self.by, rollouts)
            lineages.judge(table.total, last=True)
            chosen += best(rollouts, table, self.size)
            done(len(part))
        return chosen

    def particles(self, studio: Studio, part: Sequence[Sample]) -> tuple[list[Rollout], Lineages]:
        """Finished particles, `size` of each sample, and their weights but for the last judgement."""
        owners, members = [sample for sample in part for _ in range(self.size)], [*range(self.size)] * len(part)
        steps = studio.plan.steps
        plan = replace(studio.plan, kernel=self.kernel, noisy=tuple(range(steps - 1)))
        velocity = studio.velocity(owners)
        lineages = Lineages(len(part), self.size, self.strength, self.potential)
        x, begin, start = studio.noise(owners, members), 0, velocity

        def eps(step: int) -> torch.Tensor:
            return studio.noise(owners, members, step)

        for step in range(self.first, steps - 1, self.every):  # what the last, quiet step predicts is the finished picture
            until = replace(plan, sigmas=plan.sigmas[: step + 1], noisy=tuple(range(step)))
            x = rollout(start, until, x, eps, begin).x0
            s = plan.sigmas[step].to(x.device).expand(len(x))
            v = velocity(x, s, plan.policy)
            lineages.judge(studio.judge(self.by, studio.finished(owners, clean(x, v, s))).total)
            uniform = torch.cat([Noise(studio.seed).uniform("resample", sample.id, step) for sample in part])
            rows = lineages.resample(uniform, self.threshold).to(x.device)
            x, begin, start = x[rows], step, answered(v[rows], velocity)
        return studio.finished(owners, rollout(start, plan, x, eps, begin).x0), lineages


class Lineages:
    """Log-weights of S sets of K particles, and what each particle's ancestors have paid into them."""

    def __init__(self, sets: int, size: int, strength: float, potential: Potential):
        self.strength, self.potential = strength, potential
        zero = torch.zeros(sets, size, dtype=torch.float64)
        self.weight_SK = zero
        """Since the set was last resampled."""
        self.paid_SK = zero
        """Log of the product of all potentials along the lineage."""
        self.last_SK, self.sum_SK, self.most_SK = zero, zero, torch.full_like(zero, -math.inf)

    def judge(self, reward_B: torch.Tensor, last: bool = False) -> None:
        """Take in the particles' rewards [S*K]; `last` are those of the finished pictures."""
        reward = reward_B.double().view(self.weight_SK.shape)
        reward = torch.where(reward.isnan(), self.last_SK, reward)
        self.last_SK, self.sum_SK, self.most_SK = reward, self.sum_SK + reward, torch.maximum(self.most_SK, reward)
        gained = {
            "difference": reward * self.strength - self.paid_SK,
            "max": self.most_SK * self.strength,
            "sum": self.sum_SK * self.strength,
        }
        gain = gained["difference" if last else self.potential]
        self.weight_SK, self.paid_SK = self.weight_SK + gain, self.paid_SK + gain

    def resample(self, uniform_S: torch.Tensor, threshold: float) -> torch.Tensor:
        """[S*K] the row that each row goes on from; other than itself only in sets whose effective sample size fell below the threshold.

        Systematic: one uniform number in [0, 1) a set, so that a particle of normalised weight w gets floor(K w) or ceil(K w) places.
        """
        sets, size = self.weight_SK.shape
        normal = self.weight_SK.softmax(1)
        due = 1 / normal.square().sum(1) < threshold * size
        places = (torch.arange(size, dtype=torch.float64) + uniform_S.double()[:, None]) / size
        drawn = torch.searchsorted(normal.cumsum(1).contiguous(), places.contiguous(), right=True).clamp(max=size - 1)
        ancestor = torch.where(due[:, None], drawn, torch.arange(size))
        self.weight_SK = self.weight_SK.masked_fill(due[:, None], 0.0)
        for name in ("paid_SK", "last_SK", "sum_SK", "most_SK"):
            setattr(self, name, getattr(self, name).gather(1, ancestor))
        return (ancestor + size * torch.arange(sets)[:, None]).flatten()


def answered(v: torch.Tensor, velocity: Velocity) -> Velocity:
    """The velocity, whose first answer is known to be v."""
    known = [v]

    def ask(x: torch.Tensor, s: torch.Tensor, policy: str = "train") -> torch.Tensor:
        return known.pop() if known else velocity(x, s, policy)

    return ask
