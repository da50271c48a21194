"""One epoch's rollouts: the attempts that rewards judge and the transitions that an objective learns from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vlreward.data.media import Clip, Picture
from vlreward.flow.kernels.base import Kernel
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.math import interpolate, wide
from vlreward.flow.models.base import Asked
from vlreward.flow.plan import Noise, Plan, seeded
from vlreward.flow.rollout import Trajectory, Velocity, completed, rollout
from vlreward.flow.while_sampling import RolloutGradients
from vlreward.rewards.base import by_group
from vlreward.types import RewardTable, Rollout, Sample

Bind = Callable[[Sequence[Asked]], Velocity]
"""What is asked for -> the velocity that is conditioned on it."""
Judge = Callable[[Sequence[Rollout]], RewardTable]
Decode = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """What an objective's loss sees: B transitions of one denoising step.

    Of a forward process (see Plan.renoised), x is the rollout's end noised to s, and the transition leads to that end: x_next at s_next
    0. The velocity that goes there is `straight`.
    """

    prompts: Sequence[Asked]
    """What each row asks for; its sample, which holds a source picture beside the prompt where the generator edits."""
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
    group: torch.Tensor
    """[B] int64"""
    targets: Sequence[Mapping[str, Any]] = ()
    """Of the rollouts' samples"""
    fresh: Callable[[int], torch.Tensor] | None = None
    """Where the plan restarts: [B,*] standard normal noise, another for each number."""
    mean: torch.Tensor | None = None
    """[B,*] that x_next was drawn around, where the plan keeps means"""
    rest: Callable[[Velocity], torch.Tensor] | None = None
    """Where the plan restarts: [B,*] the clean end of x with a velocity, which carries gradient."""
    reward: Callable[[torch.Tensor], torch.Tensor] | None = None
    """Where the plan restarts: [B] float64 reward of clean ends [B,*], which carries gradient; NaN where there is none."""
    unconditional: torch.Tensor | None = None
    """[B,*] the unconditional velocity at x of the weights that sampled, where they are the live ones and guidance made use of it"""
    share: float = 1.0
    """Of its own size in the update's mean: 0 of a batch that only keeps this process in step with the others."""

    @property
    def straight(self) -> torch.Tensor:
        """[B,*] the velocity that leads from x to x_next in a straight line; eps - x0 of a renoised rollout."""
        return (self.x - self.x_next) / wide(self.s - self.s_next, self.x)


@dataclass(frozen=True)
class Part:
    """What one of several processes samples of an epoch."""

    places: list[int]
    """Its micro-batches."""
    process: int
    processes: int


@dataclass(frozen=True)
class Shared:
    """What several processes sample together."""

    part: Part
    """This one's."""
    rollouts: list[Rollout]
    """Of all processes, without their pictures."""
    keys: list[tuple[int, int, int]]


@dataclass
class Collected:
    """B rollouts in micro-batches that training visits as they were sampled: the same rows at the same places give the same floats, so
    the policy ratio is exactly 1 until the first update."""

    plan: Plan
    rollouts: list[Rollout]
    parts: list[Trajectory]
    """One a micro-batch."""
    noise: Noise
    bind: Bind
    decode: Decode
    keys: list[tuple[int, int, int]]
    """(epoch, group, member) of each rollout: what its noise is keyed by."""
    units: list[list[int]] | None = None
    """The rollouts that are trained on, where `keep` chose them."""
    advantage_BS: torch.Tensor | None = None
    weight_BS: torch.Tensor | None = None
    """Both set by the objective's `credit`."""
    judge: Judge | None = None
    """Judges with a gradient, for objectives that need one."""
    judged_B: torch.Tensor | None = None
    """[B] bool: the rollouts that have a reward; none is all of them."""
    on_the_way: list[RewardTable] = field(default_factory=list)
    """The rewards before each trained step, where the objective's `score` asks for them."""
    for_credit: dict[str, torch.Tensor] = field(default_factory=dict)
    """[B,*] by name: what else the objective's `score` leaves of each rollout for its `credit`."""
    gradients: RolloutGradients | None = None
    """Of the first update, where they were taken while sampling."""
    shared: Shared | None = None
    """None where one process samples everything."""

    @property
    def size(self) -> int:
        """Rollouts in a micro-batch that was sampled."""
        return max(len(part.x0) for part in self.parts)

    @property
    def group_B(self) -> torch.Tensor:
        """[B] int64"""
        return torch.tensor([rollout.group for rollout in self.rollouts], dtype=torch.int64)

    def keep(self, units: Sequence[Sequence[int]]) -> None:
        """Train on these rollouts alone, and no unit of them (a pair, a group) in two micro-batches; credit comes first.

        Micro-batches get alike many units, and no more rollouts than those that were sampled, unless a single unit has more. Where
        sampled transitions are trained on, each is as large as those that were sampled, so that the same rows give the same floats:
        it is filled up with rollouts that were left out, which count nothing.
        """
        self.units = [list(unit) for unit in units]
        if self.plan.train and self.advantage_BS is not None and self.weight_BS is not None:
            kept = torch.zeros(len(self.rollouts), 1, dtype=torch.bool)
            kept[[row for unit in self.units for row in unit]] = True
            self.advantage_BS = self.advantage_BS.masked_fill(~kept, 0.0)
            self.weight_BS = self.weight_BS.masked_fill(~kept, 0.0)

    def layout(self, count: int = 1) -> list[list[int]]:
        """The rollouts of each micro-batch that is trained on; a multiple of `count` micro-batches, unless units are fewer."""
        size = self.size
        if self.units is None:
            return [list(range(part * size, (part + 1) * size)) for part in range(len(self.parts))]
        most = max(1, size // max(map(len, self.units), default=1))
        number = count * -(-len(self.units) // (most * count))
        bounds = [len(self.units) * k // max(1, number) for k in range(number + 1)]
        parts = [[row for unit in self.units[a:b] for row in unit] for a, b in itertools.pairwise(bounds) if a < b]
        left = sorted(set(range(len(self.rollouts))) - {row for unit in self.units for row in unit})
        if not self.plan.train or not left:
            return parts
        spare = itertools.cycle(left)
        return [rows + [next(spare) for _ in range(size - len(rows))] for rows in parts]

    def groups(self) -> list[list[int]]:
        """The rows of each group, in the order in which groups first appear."""
        return by_group(self.rollouts)

    def updates(self, count: int, generator: torch.Generator) -> Iterator[list[Batch]]:
        """The batches of each of `count` optimiser steps: a part of the rollouts with all of its trained steps, in random order; none
        where no rollout of the part has a reward.

        Trained steps are the plan's, and after them its renoised levels, drawn anew from [k, k+1) / renoised for each rollout (or each
        group, of shared levels), and then the restart.
        """
        assert len(self.parts) % count == 0, f"{len(self.parts)} micro-batches cannot be shared among {count} updates"
        layout = self.layout(count)
        process, processes = (self.shared.part.process, self.shared.part.processes) if self.shared else (0, 1)
        for visited in visits(len(layout), count, generator):
            if self.judged_B is not None and not any(self.judged_B[layout[part]].any() for part in visited):
                yield []
                continue
            most = -(-len(visited) // processes)
            mine = visited[process::processes]
            share = len(mine) and most * processes / len(visited)
            filled = [(part, share) for part in mine] + [(part, 0.0) for part in visited[:1] * (most - len(mine))]
            items = [(layout[part], j, share) for part, share in filled for j in range(self.plan.trained)]
            yield [self._batch(*items[k]) for k in torch.randperm(len(items), generator=generator).tolist()]

    def _batch(self, rows: list[int], j: int, share: float = 1.0) -> Batch:
        assert self.advantage_BS is not None, "credit comes before updates"
        assert self.weight_BS is not None, "credit sets weights too"
        plan, size = self.plan, self.size
        x0 = torch.stack([self.parts[row // size].x0[row % size] for row in rows])
        device, count = x0.device, len(rows)
        prompts = [self.rollouts[row].sample for row in rows]
        log_prob = torch.zeros(count, device=device)
        more: dict[str, Any] = {}
        if j < len(plan.train):
            step = plan.train[j]
            x, x_next, log_prob = (self._stored(name, rows, j) for name in ("x", "x_next", "log_prob"))
            s, s_next = (plan.sigmas[k].to(device).expand(count) for k in (step, step + 1))
            more = {"mean": self._stored("mean", rows, j)} if plan.means else {}
            if self.parts[rows[0] // size].unconditional is not None and plan.policy == "train":
                more["unconditional"] = self._stored("unconditional", rows, j)
        elif j == plan.trained - 1 and plan.restart is not None:
            step = plan.restart
            x, x_next = torch.stack([self.parts[row // size].restart[row % size] for row in rows]), x0
            s, s_next = (plan.sigmas[k].to(device).expand(count) for k in (step, plan.steps))
            more = {"rest": lambda velocity: completed(velocity, plan, x, step), "reward": lambda ends: self.reward(rows, ends)}
            keys = [self.keys[row] for row in rows]
            more["fresh"] = lambda number: self.noise.batch(x.shape[1:], [(*key, "fresh", number) for key in keys]).to(device)
        else:
            step, level = plan.steps, j - len(plan.train)
            x_next, s_next = x0, torch.zeros(count, device=device)
            keys = [(*self.keys[row][: 2 if plan.shared_levels else 3], "renoised", level) for row in rows]
            s = (level + torch.cat([self.noise.uniform(*key) for key in keys])).to(device) / plan.renoised
            s = plan.levels[0] + (plan.levels[1] - plan.levels[0]) * s
            x = interpolate(x_next, self.noise.batch(x_next.shape[1:], keys).to(device), s)
        return Batch(
            prompts=prompts,
            step=step,
            kernel=plan.kernel_at(step) if j < len(plan.train) else plan.kernel,
            x=x,
            x_next=x_next,
            s=s,
            s_next=s_next,
            log_prob=log_prob,
            advantage=self.advantage_BS[rows, j].float().to(device),
            weight=self.weight_BS[rows, j].float().to(device),
            group=self.group_B[rows].to(device),
            targets=[self.rollouts[row].sample.target for row in rows],
            share=share,
            **more,
        )

    def _stored(self, name: str, rows: Sequence[int], j: int) -> torch.Tensor:
        """[B,...] what the trajectories hold under a name, of these rollouts at their trained step j."""
        size = self.size
        return torch.stack([getattr(self.parts[row // size], name)[row % size, j] for row in rows])

    def reward(self, rows: Sequence[int], x0: torch.Tensor) -> torch.Tensor:
        """[B] float64, with a gradient: what rollouts with these samples but clean ends x0 [B,*] are worth."""
        assert self.judge is not None, "an objective that needs gradients has a judge that gives them"
        pictures = self.decode(x0)
        made = [replace(self.rollouts[row], made=visual(picture)) for row, picture in zip(rows, pictures, strict=True)]
        return self.judge(made).total.to(x0.device)

    @torch.no_grad()
    def completed(self, j: int) -> list[Rollout]:
        """The rollouts as they would have ended had all been quiet from their trained step j on: by the ODE from before that step."""
        out: list[Rollout] = []
        for part in self.parts:
            rollouts = self.rollouts[len(out) : len(out) + len(part.x0)]
            velocity = self.bind([rollout.sample for rollout in rollouts])
            pictures = self.decode(completed(velocity, self.plan, part.x[:, j], self.plan.train[j])).cpu()
            out += [replace(rollout, made=visual(picture)) for rollout, picture in zip(rollouts, pictures, strict=True)]
        return out


def visits(number: int, updates: int, generator: torch.Generator) -> list[list[int]]:
    """The micro-batches, of a number of them, that each update learns from, in random order."""
    order = torch.randperm(number, generator=generator).tolist()
    return [order[number * u // updates : number * (u + 1) // updates] for u in range(updates)]


def visual(made: torch.Tensor) -> Picture | Clip:
    """A decoded [3,H,W] or [F,3,H,W] as what rewards judge."""
    return Picture(made) if made.ndim == 3 else Clip(made)


@torch.no_grad()
def collect(
    bind: Bind, decode: Decode, plan: Plan, shape: Sequence[int], samples: Sequence[Sample], noise: Noise, *,
    epoch: int, size: int, micro_batch: int, device: str = "cpu", part: Part | None = None,
    done: Callable[[list[Rollout]], None] = lambda rollouts: None, gradients: RolloutGradients | None = None,
) -> Collected:  # fmt: skip
    """`size` rollouts of each sample, which makes a group; group ids count on over epochs.

    Rows are laid into micro-batches in an order that follows from seed and epoch, so that each holds a mixture of groups, or whole ones
    where the plan branches. Their noise is keyed by group and member: no rollout depends on the order. `done` hears of each finished
    micro-batch while the next is sampled. `part`: only its micro-batches, whose number the others' can be put beside. `gradients` are
    taken of its micro-batches by the passes that sample them.
    """
    rows = [(group, member) for group in range(len(samples)) for member in range(size)]
    assert len(rows) % micro_batch == 0, f"{len(rows)} rollouts are not a multiple of the micro-batch {micro_batch}"
    generator = seeded(noise.seed, "rows", epoch)
    if plan.branch is None:
        order = torch.randperm(len(rows), generator=generator).tolist()
    else:
        order = [group * size + m for group in torch.randperm(len(samples), generator=generator).tolist() for m in range(size)]
    collected = Collected(plan=plan, rollouts=[], parts=[], noise=noise, bind=bind, decode=decode, keys=[], gradients=gradients)
    if part is not None:
        laid = [rows[k] for k in order]
        everyone = [Rollout(sample=samples[group], group=epoch * len(samples) + group) for group, _ in laid]
        collected.shared = Shared(part, everyone, [(epoch, group, member) for group, member in laid])
    for place, first in enumerate(range(0, len(rows), micro_batch)):
        if part is not None and place not in part.places:
            continue
        learner = gradients if gradients and place in gradients.places else None
        chosen = [rows[k] for k in order[first : first + micro_batch]]
        start = [(epoch, group, 0 if plan.share_noise else member, -1) for group, member in chosen]

        def eps(step: int, chosen: list[tuple[int, int]] = chosen) -> torch.Tensor:
            return noise.batch(shape, [(epoch, group, member, step) for group, member in chosen]).to(device)

        asked = [samples[group] for group, _ in chosen]
        velocity, drift = bind(asked), plan.guide([sample.prompt for sample in asked]) if plan.guide else None
        if learner:
            learner.begin(len(chosen))
        if plan.branch is None:
            trajectory = rollout(velocity, plan, noise.batch(shape, start).to(device), eps, drift=drift, learner=learner)
        else:
            distinct = sorted({group for group, _ in chosen})
            stem = replace(plan, sigmas=plan.sigmas[: plan.branch + 1], kernel=Ode(), noisy=(), train=(), branch=None, multistep=None)
            x = noise.batch(shape, [(epoch, group, 0, -1) for group in distinct]).to(device)
            x = rollout(bind([samples[group] for group in distinct]), stem, x, eps).x0
            trajectory = rollout(velocity, plan, x[[distinct.index(group) for group, _ in chosen]], eps, plan.branch, drift)
        if learner:
            learner.end(place)
        pictures = decode(trajectory.x0).cpu()
        collected.parts.append(trajectory)
        collected.keys += [(epoch, group, member) for group, member in chosen]
        made = [
            Rollout(sample=samples[group], made=visual(picture), group=epoch * len(samples) + group)
            for (group, _), picture in zip(chosen, pictures, strict=True)
        ]
        collected.rollouts += made
        done(made)
    return collected
