"""The loop that trains a critic: one stream of comparisons, a weighted sum of losses, checkpoints that go on to the same numbers."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vlreward.critics.config import Optim, TrainCritic
from vlreward.critics.network import Critic
from vlreward.critics.verdicts import Batch
from vlreward.errors import DataError
from vlreward.run import Progress, RunFolder
from vlreward.run.launch import Launch
from vlreward.types import Comparison

STATE = "state.pt"


class Trainer:
    """One run's critic, optimiser and place in the stream of comparisons.

    The processes of a launch read a part of each micro-batch each. Then all have its states, make the same losses of them, and take the
    same step with averaged gradients, so that whatever a loss counts or compares is that of the whole micro-batch.
    """

    def __init__(self, config: TrainCritic, folder: RunFolder, critic: Critic, comparisons: Sequence[Comparison], launch: Launch):
        self.config, self.folder, self.critic, self.comparisons, self.launch = config, folder, critic, comparisons, launch
        self.networks = nn.ModuleList(loss.network(critic.width) or nn.Identity() for loss in config.losses).to(critic.device)
        optim = config.optim
        head = [*critic.network.parameters(), *self.networks.parameters()]
        trunk = [weight for weight in critic.trunk.parameters() if weight.requires_grad]
        groups = [{"params": trunk, "lr": optim.lr}, {"params": head, "lr": optim.head_lr or optim.lr}]
        self.trained = [*trunk, *head]
        self.optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay
        )
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.step, self.earlier, self.opened = 0, 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Spent in this sitting and in those before."""
        return self.earlier + time.monotonic() - self.opened

    def train(self) -> None:
        """From the step it stands at to the last."""
        steps, learned = self.config.optim.steps, self.step > 0
        self.critic.train()
        with Progress("train", steps, self.step) as progress:
            while self.step < steps:
                figures = self.learn(self.batch(self.step))
                self.step += 1
                learned = learned or any(name.startswith("loss/") for name in figures)
                if not learned and self.step * self.config.batch >= len(self.comparisons):
                    count = len(self.comparisons)
                    raise DataError(f"data: none of the {count} comparisons says anything to these losses; are all attempts equally good?")
                self.folder.log(self.step, **figures)
                progress.advance(accuracy=figures.get("pair/accuracy", float("nan")))
                if self.step % self.config.optim.save_every == 0 or self.step == steps:
                    self.save()
        self.critic.eval()

    def batch(self, step: int) -> list[Comparison]:
        """The comparisons of a step: each pass through them is shuffled anew, and a step may reach into the next."""
        size, count = self.config.batch, len(self.comparisons)
        numbers = range(step * size, (step + 1) * size)
        orders = {turn: self._order(turn) for turn in dict.fromkeys(number // count for number in numbers)}
        chosen = [self.comparisons[orders[number // count][number % count]] for number in numbers]
        if self.config.control == "shuffle_scores":
            rng = random.Random(f"{self.config.run.seed}/shuffle/{step}")
            chosen = [_shuffled(comparison, rng) for comparison in chosen]
        return chosen

    def _order(self, turn: int) -> list[int]:
        """The order of one pass through the comparisons."""
        return random.Random(f"{self.config.run.seed}/{turn}").sample(range(len(self.comparisons)), len(self.comparisons))

    def learn(self, comparisons: Sequence[Comparison]) -> dict[str, float]:
        """One update; its figures."""
        start = time.monotonic()
        size = self.config.micro_batch or len(comparisons)
        rate = schedule(self.config.optim, self.step)
        for group, full in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * full
        self.optimizer.zero_grad()
        sums: dict[str, list[float]] = {}
        for first in range(0, len(comparisons), size):
            part = Batch.of(comparisons[first : first + size], self.critic.device, self.launch)
            for name, value in self._backward(part, size / len(comparisons)).items():
                sums.setdefault(name, []).append(value)
        self.launch.average(self.trained)
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.config.optim.grad_norm)
        self.optimizer.step()
        figures = {name: sum(values) / len(values) for name, values in sums.items()}
        return figures | {"grad_norm": float(norm), "lr": rate * self.rates[0], "time/update": time.monotonic() - start}

    def _backward(self, batch: Batch, share: float) -> dict[str, float]:
        """Gradients of one micro-batch, and its figures."""
        device = self.critic.device.type
        rng = random.Random(f"{self.config.run.seed}/read/{self.step}/{batch.comparisons[0].id}")
        with torch.autocast(device, torch.bfloat16, enabled=self.config.critic.bf16):
            verdicts = self.critic.judge(batch.rollouts, rng, launch=batch.launch)
        total, figures = torch.zeros((), device=self.critic.device), {}
        for loss, network in zip(self.config.losses, self.networks, strict=True):
            value = loss(verdicts, batch, network, self.critic)
            if value is not None:
                total = total + loss.weight * value
                figures[f"loss/{loss.kind}"] = value.item()  # type: ignore[attr-defined]
        if total.requires_grad:
            (share * total).backward()
        better, worse = batch.pairs()
        if len(better):
            gap = (verdicts.scores[better] - verdicts.scores[worse]).detach()
            figures |= {"pair/accuracy": (gap > 0).float().mean().item(), "pair/margin": gap.mean().item()}
        return figures

    def save(self) -> None:
        """Everything that the next step depends on."""
        weights = dict(self.critic.named_parameters())
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "weights": {name: weight.detach() for name, weight in weights.items() if weight.requires_grad},
            "networks": self.networks.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda": [torch.cuda.get_rng_state(self.critic.device)] if self.critic.device.type == "cuda" else [],
        }
        with self.folder.checkpoint(self.step) as place:
            if not self.launch.rank:
                torch.save(state, place / STATE)

    def resume(self, place: Path) -> None:
        """Take up what `save` wrote, with as many processes or others."""
        state: dict[str, Any] = torch.load(place / STATE, map_location="cpu", weights_only=True)
        weights = dict(self.critic.named_parameters())
        with torch.no_grad():
            for name, value in state["weights"].items():
                weights[name].copy_(value)
        self.networks.load_state_dict(state["networks"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        if state["cuda"] and self.critic.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"][0], self.critic.device)
        self.step, self.earlier, self.opened = state["step"], state["seconds"], time.monotonic()


def schedule(optim: Optim, step: int) -> float:
    """The share of the learning rate at a step, from 0 on: a rise over `warmup`, then constant, or down to 0 behind the last step."""
    if step < optim.warmup:
        return (step + 1) / optim.warmup
    left = 1 - (step - optim.warmup) / max(1, optim.steps - optim.warmup)
    return {"constant": 1.0, "linear": left, "cosine": 0.5 - 0.5 * math.cos(math.pi * left)}[optim.schedule]


def _shuffled(comparison: Comparison, rng: random.Random) -> Comparison:
    """The comparison with its scores (and those of aspects) handed to attempts at random."""
    order = rng.sample(range(len(comparison.scores)), len(comparison.scores))
    aspects = {name: tuple(values[i] for i in order) for name, values in comparison.aspects.items()}
    return replace(comparison, scores=tuple(comparison.scores[i] for i in order), aspects=aspects)
