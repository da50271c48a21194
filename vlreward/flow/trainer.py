"""The alignment loop. Read `Trainer.step` first."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from vlreward.advantages.base import dead_fraction
from vlreward.flow import evaluate, state, watch
from vlreward.flow.ahead import Ahead
from vlreward.flow.collect import Batch, Collected, Part, collect
from vlreward.flow.config import Align, Evaluation
from vlreward.flow.given import given
from vlreward.flow.math import sigmas
from vlreward.flow.models.base import Asked, Embeddings, guided, unconditional
from vlreward.flow.objectives.policy_gradient import PolicyGradient
from vlreward.flow.plan import Noise, Plan, seeded
from vlreward.flow.policies import Policies
from vlreward.flow.processes import Processes
from vlreward.flow.rollout import Velocity
from vlreward.flow.while_sampling import RolloutGradients
from vlreward.pieces import saved_whole, whole
from vlreward.rewards.composite import Composite, require_judged
from vlreward.rewards.judges import Judges
from vlreward.run import Progress, RunFolder, meet, seed_everything
from vlreward.statistics import gains
from vlreward.types import RewardTable, Rollout, Sample, TrainState

LOGGED = 2
"""Best and worst rollouts an epoch that go into rollouts.jsonl, each."""


class Trainer:
    """Holds what a run needs; `fit` runs it to the end. `train` and `held_out` are the samples of the two sources."""

    def __init__(
        self, config: Align, folder: RunFolder, train: Sequence[Sample], held_out: Sequence[Sample], device: str,
        processes: Processes | None = None,
    ):  # fmt: skip
        self.config, self.folder, self.samples, self.held_out = config, folder, train, held_out
        self.processes = processes or Processes(device)
        self.device = self.processes.device
        self.processes.check(config)
        seed_everything(config.run.seed)
        self.model = config.generator
        self.model.load(self.device)
        config.rewards.load(self.device)
        self.judges = Judges(config.judge_seconds, all_apart=True)
        self.state = TrainState()
        self.noise = Noise(config.run.seed)
        count = config.optim.epochs * config.group.groups
        asked = [*self.take(0, min(count, len(train))), *held_out]
        self.embeddings = Embeddings(self.model, asked)
        if self.model.runs_twice(config.sampler.schedule.guidance):
            self.embeddings.null(asked)
        if not (config.eval and config.eval.steer):
            self.model.drop_encoders()
        self.grid = config.sampler.sigmas(self.model.schedule(config.sampler.schedule.steps))
        names = config.objective.policies | ({"ema"} if config.optim.ema else set())
        self.policies = Policies(self.model.net, names, self.processes.divide)
        config.objective.prepare(self.model.shape(), lambda asked: self.embeddings(asked, self.device), self.processes, config.run.seed)
        self.weights = [weight for weight in self.model.net.parameters() if weight.requires_grad]
        self.descent = self.processes.descent(self.model.net, self.weights, config.optim)
        self.opened = time.monotonic()

    def fit(self) -> None:
        """Evaluate, train, evaluate again, and write what it came to. Goes on from the newest checkpoint where there is one."""
        config, found = self.config, self.folder.latest()
        if found:
            self.state = state.restore(found[1], self.policies, self.descent, config.objective, config.rewards.recall)
        self.folder.rewind(self.state.step if found else -1)
        meet()
        self.logged: list[dict[str, float]] = self.folder.read("metrics.jsonl")
        if self.state.step < config.optim.epochs:
            self.check()
        if config.eval and self.state.step == 0:
            self.evaluate("before", "train")
        with Progress("align", config.optim.epochs, self.state.step) as progress:
            while self.state.step < config.optim.epochs and not self.hacked():
                figures = self.step()
                if config.eval and config.eval.every and self.state.step % config.eval.every == 0:
                    figures |= self.evaluate(f"epoch_{self.state.step}", self.evaluated, quiet=True)
                self.folder.log(self.state.step, **figures)
                self.logged.append(figures)
                if self.state.step % config.save_every == 0 or self.state.step == config.optim.epochs or self.hacked():
                    self.save()
                progress.advance(reward=figures.get("reward/total", float("nan")))
        with self.policies.use(self.evaluated), saved_whole(self.model.net):
            if not self.processes.rank:
                self.model.export(self.folder.path / ("lora" if self.policies.lora else "transformer"))
        if not self.processes.rank:
            config.objective.export(self.folder.path)
        summary: dict = {"command": "align", "seconds": self.seconds, "steps": self.state.step}
        if why := self.hacked():
            summary["stopped"] = why
            if not any(row["kind"] == "hacking" for row in self.folder.read("notices.jsonl")):
                self.folder.notice(self.state.step, "hacking", why)
        if config.eval:
            self.evaluate("after", self.evaluated)
            if not self.processes.rank:
                summary["held_out"] = gains(*(self.folder.read(f"evaluation_{phase}.jsonl") for phase in ("before", "after")))
            summary["seconds"] = self.seconds
        self.folder.summary(summary)

    def step(self) -> dict[str, float]:
        """One epoch: sample, judge, give credit, update. Its figures."""
        config, objective, epoch = self.config, self.config.objective, self.state.step
        figures: dict[str, float] = {}
        self.reward_calls = 0
        plan = objective.plan(config.sampler, self.grid, epoch, config.run.seed)
        samples = self.take(self.state.cursor, config.group.groups)
        ahead = Ahead(config.group.known or config.rewards, self.judges, self.processes)
        with self.timed("rollout", figures), whole(self.model.net):
            part, gradients = self.processes.part(config, epoch), self.while_sampling(plan, epoch)
            collected = self.collect(plan, samples, epoch, config.group.size, made=ahead.begin, part=part, gradients=gradients)
        collected.judge = self.judge if objective.needs_gradient else None
        with self.timed("reward", figures), whole(self.model.net):
            table = objective.score(collected, lambda rollouts: self.score(rollouts, ahead, collected))
            seen = [glance for part in self.processes.gather(watch.glances(collected.rollouts)) for glance in part]
            table = self.processes.join(collected, table)
        judged = table
        if config.control == "shuffle_rewards":
            order = torch.randperm(len(table.scores), generator=seeded(config.run.seed, "control", epoch))
            judged = table.reordered(order.tolist())
            collected.on_the_way = [before.reordered(order.tolist()) for before in collected.on_the_way]
        collected.judged_B = ~judged.total.isnan()
        objective.credit(collected, judged, config.advantage)
        objective.choose(collected, judged)
        self.processes.lay_open(collected)
        with self.timed("update", figures):
            figures |= self.update(collected, epoch)
        if collected.judged_B.any():
            objective.after_epoch(self.policies, epoch)
        self.state.step, self.state.cursor = epoch + 1, self.state.cursor + len(samples)
        asked = float(sum(self.processes.gather(self.reward_calls)))
        figures |= watch.reward_figures(table) | objective.figures() | {"reward_calls": asked}
        figures |= {"dead_fraction": dead_fraction(table, collected.group_B), "on_policy": float(config.optim.updates == 1)}
        figures |= {"diversity": watch.diversity(seen), "saturation": watch.saturation(seen)}
        order = table.total.nan_to_num(nan=-float("inf")).argsort(descending=True, stable=True).tolist()
        logged = order[:LOGGED] + order[-LOGGED:]
        pictures = {row: collected.rollouts[row] for row in logged if collected.rollouts[row].made is not None}
        pictures = {row: rollout for part in self.processes.hand_over(pictures) for row, rollout in part.items()}
        rollouts = [pictures.get(row, rollout) for row, rollout in enumerate(collected.rollouts)]
        self.folder.rollouts("train", self.state.step, rollouts, table, logged if pictures else [])
        return figures

    def hacked(self) -> str | None:
        """Why the run should end now, by its `stop:` block."""
        return self.config.stop.fires(self.logged) if self.config.stop else None

    def collect(
        self, plan: Plan, samples: Sequence[Sample], epoch: int, size: int, micro_batch: int | None = None,
        made: Callable[[list[Rollout]], None] = lambda rollouts: None, part: Part | None = None,
        gradients: RolloutGradients | None = None,
    ) -> Collected:  # fmt: skip
        """Rollouts of these samples, of which `made` hears a micro-batch at a time; or their own pictures in their place."""
        if self.config.group.pictures == "given":
            size = min(size, self.config.group.size)
            return given(
                lambda asked: self.bind(asked, plan.guidance), self.model, plan, samples, self.noise,
                epoch=epoch, size=size, micro_batch=min(self.config.group.micro_batch, size * len(samples)), device=self.device,
                part=part,
            )  # fmt: skip
        return collect(
            lambda asked: self.bind(asked, plan.guidance), self.model.decode, plan, self.model.shape(), samples, self.noise,
            epoch=epoch, size=size, micro_batch=micro_batch or self.config.group.micro_batch, device=self.device, done=made, part=part,
            gradients=gradients,
        )  # fmt: skip

    def while_sampling(self, plan: Plan, epoch: int) -> RolloutGradients | None:
        """What takes the first update's gradient from the passes that sample, where that is asked for."""
        objective = self.config.objective
        if self.config.optim.backward == "after" or not isinstance(objective, PolicyGradient):
            return None
        places = self.processes.first_update(self.config, epoch)
        return RolloutGradients(self.model.net, self.weights, objective.followed, objective.step_weights(plan), places)

    def score(self, rollouts: Sequence[Rollout], ahead: Ahead, collected: Collected) -> RewardTable:
        """Judge an epoch's rollouts, whole, which was begun ahead, or as they would have ended."""
        self.reward_calls += 0 if self.config.group.score else len(rollouts)
        return ahead.table(rollouts, collected.rollouts)

    def judge(self, rollouts: Sequence[Rollout]) -> RewardTable:
        """Judge with a gradient; terms of weight 0 only watch, and are not asked."""
        self.reward_calls += len(rollouts)
        terms = [term for term in self.config.rewards.terms if term.weight]
        return self.judges.begin(Composite(terms), rollouts, self.device)()

    def update(self, collected: Collected, epoch: int) -> dict[str, float]:
        """The epoch's optimiser steps; means of their figures. An update whose gradient is zero or not finite is left out."""
        optim, guidance = self.config.optim, collected.plan.guidance
        figures: dict[str, list[float]] = {"skipped": []}
        gradient = watch.GradientNorm(self.weights)
        for number, batches in enumerate(collected.updates(optim.updates, seeded(self.config.run.seed, "updates", epoch))):
            self.descent.begin()
            if number == 0 and collected.gradients is not None and collected.advantage_BS is not None:
                taken = collected.gradients.lay(collected.advantage_BS, collected.plan)
                figures |= {name: [value] * len(batches) for name, value in taken.items() if batches}
                batches = []
            for place, batch in enumerate(batches, start=1):
                known = batch if number == 0 and batch.unconditional is not None else None
                loss = self.config.objective.loss(self.bind(batch.prompts, guidance, known), batch)
                self.descent.backward(loss.value * batch.share / len(batches), last=place == len(batches))
                own = watch.by_step(batch, collected.plan, loss, gradient.take() * len(batches) / (batch.share or 1))
                for name, value in {**loss.metrics, **own}.items() if batch.share else ():
                    figures.setdefault(name, []).append(value)
            norm = self.descent.length()
            figures.setdefault("grad_norm", []).append(norm)
            usable = 0 < norm < float("inf")
            figures["skipped"].append(float(not usable))
            if not usable:
                self.descent.leave_out()
                continue
            done = epoch * optim.updates + number + 1
            self.descent.step(optim.rate(done))
            if optim.ema:
                self.policies.update("ema", min(optim.ema, (1 + done) / (10 + done)))
        gradient.remove()
        everyone = self.processes.gather(figures)
        figures = {name: [value for part in everyone for value in part.get(name, [])] for part in everyone for name in part}
        most = {"ratio/deviation": max}
        finite = {name: [v for v in values if v == v] for name, values in figures.items()}
        return {name: most[name](v) if name in most else sum(v) / len(v) for name, v in finite.items() if v}

    def bind(self, asked: Sequence[Asked], guidance: float, known: Batch | None = None) -> Velocity:
        """The velocity on what is asked for. `known`: a batch whose unconditional velocities are those of the live weights still."""
        condition = self.embeddings(asked, self.device)
        null = self.embeddings.null(asked, self.device) if self.model.runs_twice(guidance) else None

        def velocity(x: torch.Tensor, s: torch.Tensor, policy: str = "train") -> torch.Tensor:
            with self.policies.use(policy), contextlib.nullcontext() if policy == "train" else torch.no_grad():
                half = known.unconditional if known and policy == "train" and x is known.x else None
                if half is None and null is not None:
                    half = unconditional(self.model, x, s, null)
                velocity.unconditional = half  # type: ignore[attr-defined]
                return guided(self.model, x, s, condition, null, guidance, half)

        return velocity

    def take(self, cursor: int, count: int) -> list[Sample]:
        """The next samples from a place in the stream: pass after pass over the data, each in a new order."""
        out = []
        for place in range(cursor, cursor + count):
            turn, index = divmod(place, len(self.samples))
            out.append(self.samples[self._order(turn)[index]])
        return out

    def _order(self, turn: int) -> list[int]:
        if getattr(self, "_turn", None) != turn:
            self._turn = turn
            self._permutation = torch.randperm(len(self.samples), generator=seeded(self.config.run.seed, "data", turn)).tolist()
        return self._permutation

    @property
    def evaluated(self) -> str:
        """Whose weights are evaluated and exported."""
        return "ema" if self.config.optim.ema else "train"

    @property
    def seconds(self) -> float:
        """Spent on this run, earlier sittings included."""
        return self.state.seconds + time.monotonic() - self.opened

    def held_out_plan(self, policy: str) -> Plan:
        """How held-out pictures are made with these weights."""
        block, schedule = self.config.eval, self.config.sampler.schedule
        assert isinstance(block, Evaluation), "there is nothing to evaluate on"
        own = self.model.schedule(block.steps) if schedule.shift is None else {"shift": schedule.shift}
        return evaluate.plan(sigmas(block.steps, grid=block.grid or schedule.grid, **own), schedule.guidance, policy)

    def evaluate(self, phase: str, policy: str, quiet: bool = False) -> dict[str, float]:
        """Make and judge the held-out pictures; writes evaluation_<phase>.jsonl and, unless quiet, every picture. Mean scores."""
        block = self.config.eval
        assert isinstance(block, Evaluation), "there is nothing to evaluate on"
        plan = self.held_out_plan(policy)
        ahead = Ahead(self.config.rewards, self.judges, self.processes)
        with Progress(f"evaluate {phase}", len(self.held_out) * block.pictures) as progress, whole(self.model.net):

            def made(rollouts: list[Rollout]) -> None:
                ahead.begin(rollouts)
                progress.advance(min(len(rollouts) * self.processes.count, progress.total - progress.done))

            rollouts = evaluate.held_out(
                lambda asked: self.bind(asked, plan.guidance), self.model.decode, plan, self.model.shape(), self.held_out,
                seed=block.seed, batch=block.batch, device=self.device, each=block.pictures, done=made, share=self.processes.share,
            )  # fmt: skip
            rollouts, table = self.processes.collect_first(rollouts, ahead.table(rollouts, rollouts), block.batch)
        if self.processes.rank:
            return {}
        if phase == "before":
            require_judged(table)
        if not quiet:
            self.folder.rows("held_out.jsonl", evaluate.recipe(self.held_out, block.seed))
            known = {row["id"] for row in self.folder.read("rollouts.jsonl") if row["phase"] == phase}
            self.folder.rollouts(phase, self.state.step, rollouts, table, [i for i, r in enumerate(rollouts) if r.sample.id not in known])
        self.folder.evaluation(phase, rollouts, table)
        figures = watch.reward_figures(table)
        return {f"held_out/{name.removeprefix('reward/')}": value for name, value in figures.items() if name != "broken"}

    def check(self) -> None:
        """Print the self-check and the run's geometry."""
        group, optim = self.config.group, self.config.optim
        plan = self.config.objective.plan(self.config.sampler, self.grid, self.state.step, self.config.run.seed)
        samples = self.take(self.state.cursor, max(1, group.micro_batch // group.size))
        size = group.micro_batch // len(samples)
        collected = self.collect(plan, samples, self.state.step, size, size * len(samples))
        facts = watch.self_check(lambda asked: self.bind(asked, plan.guidance), collected)
        x0 = collected.parts[0].x0
        velocity = self.bind([rollout.sample for rollout in collected.rollouts], plan.guidance)
        with whole(self.model.net):
            activations = watch.activations(lambda: velocity(x0, x0.new_ones(len(x0))), self.model.net.parameters())
        kept = int(watch.held(collected) * group.size * group.groups)
        apart = group.size * group.groups // optim.updates if optim.backward == "while_sampling" else 0
        memory = watch.memory(self.model.networks(), self.weights, self.policies.num_bytes, activations, kept, apart)
        count = sum(weight.numel() for weight in self.weights)
        if not self.processes.rank:
            print(f"self-check: {facts or 'no ratio to check'}; {count:,} trained weights", file=sys.stderr)
            print(f"{watch.geometry(group, optim, plan)}\n{memory}", file=sys.stderr)

    def save(self) -> None:
        with self.folder.checkpoint(self.state.step) as place:
            now = replace(self.state, seconds=self.seconds)
            state.save(place, now, self.policies, self.descent, self.config.objective, self.config.rewards.memory)

    @contextlib.contextmanager
    def timed(self, stage: str, figures: dict[str, float]) -> Iterator[None]:
        start = time.monotonic()
        yield
        figures[f"time/{stage}"] = time.monotonic() - start
