"""The configuration of `vlreward align`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from vlreward.advantages.base import Advantage
from vlreward.config import Bound, Count, Fraction, NotNegative, Positive
from vlreward.data.source import Source
from vlreward.errors import ConfigError, under
from vlreward.flow.math import Grid
from vlreward.flow.models.base import Generator
from vlreward.flow.objectives.base import Objective
from vlreward.flow.sampler import Sampler, Schedule
from vlreward.flow.steer.base import Steer
from vlreward.flow.stop import Stop
from vlreward.rewards.composite import Composite, Term
from vlreward.rewards.given import SampleNumber
from vlreward.run import Device, Run


@dataclass(frozen=True, kw_only=True)
class Group:
    """The `group:` block: what one epoch samples."""

    size: int
    """Rollouts of one prompt, which are compared with each other; at least 2, of given pictures 1."""
    groups: Count
    """Prompts an epoch."""
    micro_batch: Count = 8
    """Rollouts in one forward pass, in sampling and training alike."""
    pictures: Literal["made", "given"] = "made"
    """`given`: nothing is drawn; groups are pictures (or clips) of the data, `size` of each sample's, drawn anew each epoch."""
    score: str | None = None
    """Where given pictures have been judged before: the key in `target.pictures` that their scores stand under. None judges them by
    `rewards`."""

    def __post_init__(self):
        least = 2 if self.pictures == "made" else 1
        if self.size < least:
            raise ConfigError(f"is {self.size}, expected at least {least}", "size")
        if self.score and self.pictures == "made":
            raise ConfigError(f"is {self.score!r}, but only given pictures have scores; add group.pictures: given", "score")
        if self.size * self.groups % self.micro_batch:
            raise ConfigError(f"is {self.micro_batch}, expected a divisor of size * groups = {self.size * self.groups}", "micro_batch")

    @property
    def known(self) -> Composite | None:
        """The scores that lie in the data, as rewards."""
        return Composite([Term(name=self.score, weight=1.0, reward=SampleNumber(key=self.score))]) if self.score else None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The `eval:` block: held-out prompts, drawn by the ODE with fixed noise a prompt, before and after."""

    data: Source
    steps: Count = 40
    grid: Grid | None = None
    """None is the sampler's."""
    seed: int = 0
    batch: Count = 32
    every: Annotated[int, Bound(0)] = 0
    """Epochs between evaluations on the way; 0 is none."""
    pictures: Count = 1
    """Of each prompt, whose scores are averaged; all of them are kept, with their scores, as a training set for `group.pictures: given`."""
    steer: Steer | None = None
    """`vlreward eval` makes the pictures by it too, and compares; a training is measured on plain pictures."""

    def __post_init__(self):
        if self.steer and self.pictures > 1:
            raise ConfigError(f"is {self.pictures}, but a steer is compared with one picture; remove it", "pictures")


@dataclass(frozen=True, kw_only=True)
class Optim:
    """The `optim:` block."""

    lr: Positive
    epochs: Count
    """Each samples `group.groups` prompts and learns from them."""
    updates: Count = 1
    """Optimiser steps an epoch, which share its rollouts; with 1 every ratio is 1 and learning is purely on-policy."""
    backward: Literal["after", "while_sampling"] = "after"
    """`while_sampling`: the first update's gradient is taken by the passes that sample, rollout by rollout, and summed once advantages are
    known, which saves the update's own passes. For a LoRA, policy gradients with one advantage a rollout, and no KL; the host keeps 4
    bytes a rollout of that update and trained weight."""
    weight_decay: NotNegative = 1e-4
    grad_norm: Positive = 1.0
    """Gradients are scaled down to this length."""
    ema: Fraction = 0.0
    """Decay of averaged weights, which are then what is evaluated and exported; 0 is off. Source of 0.9: Flow-GRPO's configuration."""
    warmup: Annotated[int, Bound(0)] = 0
    """Optimiser steps over which the learning rate rises."""
    schedule: Literal["constant", "linear"] = "constant"
    """`linear`: the learning rate falls to 0 over the run, so that the last updates' noise does not stay in the weights."""

    def rate(self, done: int) -> float:
        """Learning rate of the optimiser step `done` (the first is 1)."""
        left = 1 - (done - 1) / (self.epochs * self.updates) if self.schedule == "linear" else 1.0
        return self.lr * left * min(1.0, done / max(1, self.warmup))


@dataclass(frozen=True, kw_only=True)
class Align:
    """A whole run."""

    run: Run
    data: Source
    generator: Generator
    sampler: Sampler
    group: Group
    rewards: Composite
    advantage: Advantage
    objective: Objective
    optim: Optim
    eval: Evaluation | None = None
    stop: Stop | None = None
    """None goes on to the last epoch."""
    control: Literal["none", "shuffle_rewards"] = "none"
    """`shuffle_rewards` hands each epoch's rewards to the wrong rollouts: a run that must not learn."""
    judge_seconds: Positive = 600.0
    """A reward that judges one micro-batch for longer counts as broken on it, and on later ones for as long as it hangs."""
    save_every: Count = 5
    """Epochs between checkpoints."""
    device: Device = "auto"

    def __post_init__(self):
        kernel = self.sampler.kernel
        if self.objective.needs_log_prob and not kernel.stochastic:
            raise ConfigError(
                f"is {kernel.kind!r}, whose steps have no log-probabilities, but the objective {self.objective.kind!r} needs them; "
                "use 'flow_sde'",
                "sampler.kernel",
            )
        if self.objective.needs_log_prob and getattr(kernel, "noise", 1.0) == 0:
            raise ConfigError(f"is 0, which leaves no log-probabilities for {self.objective.kind!r}; try 0.7", "sampler.noise")
        offline = self.group.pictures == "given"
        if offline and self.objective.needs_log_prob:
            problem = f"is 'given', but {self.objective.kind!r} learns from how its rollouts were sampled; try 'gdro' or 'flow_dpo'"
            raise ConfigError(problem, "group.pictures")
        if self.objective.offline and not offline:
            raise ConfigError(f"is 'made', but {self.objective.kind!r} learns from pictures of the data; use 'given'", "group.pictures")
        if self.objective.needs_gradient and offline and not self.objective.offline:
            raise ConfigError(f"is 'given', but {self.objective.kind!r} draws its own rollouts; remove it", "group.pictures")
        if self.group.score and self.objective.needs_gradient:
            raise ConfigError(
                f"is {self.group.score!r}, but {self.objective.kind!r} needs rewards with a gradient; remove it", "group.score"
            )
        schedule, plain = self.sampler.schedule, Schedule(steps=self.sampler.schedule.steps)
        for key in self.objective.overrides:
            if getattr(schedule, key) != getattr(plain, key):
                problem = f"is {getattr(schedule, key)!r}, but {self.objective.kind!r} decides that itself; remove it"
                raise ConfigError(problem, f"sampler.{key}")
        batches = self.group.size * self.group.groups // self.group.micro_batch
        if batches % self.optim.updates:
            raise ConfigError(f"is {self.optim.updates}, expected a divisor of the {batches} micro-batches of an epoch", "optim.updates")
        if self.objective.whole_groups and self.group.micro_batch % self.group.size:
            raise ConfigError(
                f"is {self.group.micro_batch}, but {self.objective.kind!r} compares whole groups; use a multiple of group.size = "
                f"{self.group.size}",
                "group.micro_batch",
            )
        with under("objective"):
            self.objective.check(self.group.size)
        if self.optim.backward == "while_sampling" and (lacking := self._lacking()):
            raise ConfigError(f"is 'while_sampling', but {lacking}; use 'after'", "optim.backward")
        if self.advantage.per_token:
            name = type(self.advantage).__name__
            raise ConfigError(f"is {name}, which credits the tokens of a text; a generator writes none", "advantage.kind")
        if self.objective.own_preferences and self.control == "shuffle_rewards":
            raise ConfigError(f"is 'shuffle_rewards', but what {self.objective.kind!r} prefers stands in the data", "control")
        if self.objective.needs_gradient and self.control == "shuffle_rewards":
            raise ConfigError(f"is 'shuffle_rewards', but {self.objective.kind!r} follows gradients, which stay where they are", "control")
        watching = [term.name for term in self.rewards.terms if not term.weight]
        if self.stop and self.stop.judge not in watching:
            known = f"one of the terms of weight 0: {', '.join(watching)}" if watching else "a term of `rewards` that has `weight: 0`"
            raise ConfigError(f"is {self.stop.judge!r}, expected {known}", "stop.judge")
        for i, term in enumerate(self.rewards.terms):
            if self.objective.needs_gradient and term.weight and not term.reward.differentiable:
                raise ConfigError(
                    f"is {term.reward.kind!r}, which has no gradient, but {self.objective.kind!r} needs one; use 'clip_score', or weight 0",
                    f"rewards.{i}.kind",
                )
            if "text" in term.reward.needs:
                raise ConfigError(f"is {term.reward.kind!r}, which judges text, but a generator makes pictures", f"rewards.{i}.kind")

    def _lacking(self) -> str | None:
        """Why an update's gradient cannot be taken while sampling."""
        if self.generator.several:
            return f"{self.generator.kind!r} passes rows with unlike many pictures apart"
        return self.objective.unfollowed() if getattr(self.generator, "lora", 0) else "generator.lora is 0, and all weights are trained"
