"""A reward of noisy latents: small, conditioned on time and prompt, learned from rollouts that were judged once finished."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from vlreward.config import Count, Positive
from vlreward.errors import ConfigError
from vlreward.flow.math import interpolate
from vlreward.flow.models.base import Condition
from vlreward.flow.plan import seeded

if TYPE_CHECKING:
    from vlreward.flow.processes import Processes

ConditionOf = Callable[[Sequence[str]], Condition]
"""Prompts -> what the generator's network is told of them."""
TIMES = 16
"""Frequencies that a noise level is told by."""


class LatentReward(nn.Module):
    """r(x, s, condition) [B] float32: how good a finished rollout will be that is at x [B,*shape] at noise level s [B].

    In units of log odds: the difference of two is that of the one being preferred. What it is told of prompts is the mean over each of
    the generator's own embeddings. `widths` are their widths by name.
    """

    def __init__(self, shape: Sequence[int], widths: Mapping[str, int], width: int = 64, depth: int = 3):
        super().__init__()
        self.settings = {"shape": list(shape), "widths": dict(widths), "width": width, "depth": depth}
        space = max(1, len(shape) - 1)
        kind: type[nn.Module] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[space - 1]
        self.enter = kind(shape[0], width, 3, padding=1)
        self.time = nn.Linear(2 * TIMES, width)
        self.words = nn.ModuleDict({name: nn.Linear(size, width) for name, size in widths.items()})
        self.norms = nn.ModuleList(nn.GroupNorm(1, width, affine=False) for _ in range(depth))
        self.told = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.layers = nn.ModuleList(kind(width, width, 3, padding=1, stride=2 if i else 1) for i in range(depth))
        self.mix = nn.Linear(2 * width, width)
        self.out = nn.Linear(width, 1)
        self.out.bias.requires_grad_(False)  # differences alone are learned; of the float error of its gradient Adam makes whole steps

    def forward(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        """[B] float32"""
        frequencies = torch.exp(math.log(1000.0) * torch.arange(TIMES, device=x.device) / (TIMES - 1))
        angles = s.float()[:, None] * frequencies
        known = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        for name, layer in self.words.items():
            known = known + layer(averaged(condition[name].float()))
        known = F.silu(known)
        hidden = self.enter(x.float() if x.ndim > 2 else x.float()[:, :, None])
        for norm, told, layer in zip(self.norms, self.told, self.layers, strict=True):
            scale, shift = (part.reshape(*part.shape, *[1] * (hidden.ndim - 2)) for part in told(known).chunk(2, 1))
            hidden = layer(F.silu(norm(hidden) * (1 + scale) + shift))
        return self.out(F.silu(self.mix(torch.cat([hidden.flatten(2).mean(2), known], 1)))).squeeze(1)

    def gradient(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        """[B,*] of the reward with respect to x; none reaches its weights."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self(x, s, condition).sum(), x)[0]

    def save(self, folder: Path) -> None:
        """Into a folder: latent_reward.safetensors and latent_reward.json."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: weight.detach().cpu().contiguous() for name, weight in self.state_dict().items()}, folder / "latent_reward.safetensors"
        )
        (folder / "latent_reward.json").write_text(json.dumps(self.settings, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> LatentReward:
        """From a folder that `save` wrote. Raises ConfigError where there is none."""
        if not (folder / "latent_reward.json").is_file():
            how = "`vlreward align` with the objective 'latent_reward' or 'euphonium' leaves one in its run"
            raise ConfigError(f"is {str(folder)!r}, where no latent reward was saved; {how}")
        model = cls(**json.loads((folder / "latent_reward.json").read_text()))
        model.load_state_dict(load_file(folder / "latent_reward.safetensors"))
        return model.to(device).eval()


def averaged(rows: torch.Tensor) -> torch.Tensor:
    """[B,D] of unit size: embeddings [B,D], or [B,L,D] averaged over the tokens that are not padded with zeros."""
    if rows.ndim > 2:
        real = (rows != 0).any(2, keepdim=True)
        rows = (rows * real).sum(1) / real.sum(1).clamp(min=1)
    return F.layer_norm(rows, rows.shape[1:])


def widths(condition: Condition) -> dict[str, int]:
    """Widths of the parts of a condition that are embeddings, by name."""
    return {name: rows.shape[-1] for name, rows in condition.items() if rows.ndim > 1 and rows.is_floating_point()}


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How a latent reward is made and learned."""

    width: Count = 64
    lr: Positive = 1e-3
    updates: Count = 20
    """Optimiser steps an epoch."""
    pairs: Count = 128
    """Pairs in each."""
    start: Path | None = None
    """A folder with one that was saved, to go on from."""


class Learner:
    """A latent reward that learns from each epoch's rollouts which of two with one prompt was judged better, at all noise levels.

    A pair is noised to one level with one noise, so that what differs is its ends. Each process takes its share of an update's pairs.
    Source: the Bradley-Terry loss of Flow-NRG's noisy reward model (arXiv 2501.13918).
    """

    def __init__(self, learning: Learning, shape: Sequence[int], condition: ConditionOf, processes: Processes, seed: int):
        self.learning, self.condition, self.processes, self.seed = learning, condition, processes, seed
        device = processes.device
        if learning.pairs < processes.count:
            raise ConfigError(f"is {learning.pairs}, fewer than the {processes.count} processes that share them", "objective.critic.pairs")
        if learning.start is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.model = LatentReward(shape, widths(condition([""])), learning.width).to(device)
        else:
            try:
                self.model = LatentReward.load(learning.start, device)
            except ConfigError as error:
                raise ConfigError(error.problem, "objective.critic.start") from error
            if self.model.settings["shape"] != list(shape) or self.model.settings["widths"] != widths(condition([""])):
                raise ConfigError(f"is {str(learning.start)!r}, which was learned on other latents or prompts", "objective.critic.start")
        self.weights = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.weights, lr=learning.lr, weight_decay=1e-2)

    @torch.enable_grad()
    def learn(self, x0: torch.Tensor, group: torch.Tensor, total: torch.Tensor, prompts: Sequence[str], epoch: int) -> dict[str, float]:
        """Learn from ends x0 [B,*], those of all processes, with their groups and totals [B]; NaN totals are left out. Its figures.

        `latent_reward/accuracy` is the share of pairs it ranks rightly before it learns from them, at random noise levels.
        """
        better, worse = ((group[:, None] == group) & (total[:, None] > total)).nonzero().T
        if not len(better):
            return {}
        pairs, device = self.learning.pairs, self.processes.device
        mine = self.processes.share(range(pairs))
        figures: dict[str, float] = {}
        for number in range(self.learning.updates):
            generator = seeded(self.seed, "latent reward", epoch, number)
            chosen = torch.randint(len(better), (pairs,), generator=generator)[mine]
            s = torch.rand(pairs, generator=generator)[mine].to(device)
            eps = torch.randn(pairs, *x0.shape[1:], generator=generator)[mine].to(device)
            both = torch.cat([better[chosen], worse[chosen]])
            x = interpolate(x0[both].to(device), torch.cat([eps, eps]), torch.cat([s, s]))
            told = self.condition([prompts[int(row)] for row in both])
            high, low = self.model(x, torch.cat([s, s]), told).chunk(2)
            loss = F.softplus(low - high).sum() / pairs
            if not number:
                right = (high > low).sum().item() / pairs
                parts = self.processes.gather({"latent_reward/accuracy": right, "latent_reward/loss": loss.item()})
                figures = {name: sum(part[name] for part in parts) for name in parts[0]}
            self.optimizer.zero_grad()
            (self.processes.count * loss).backward()
            self.processes.average(self.weights)
            self.optimizer.step()
        return figures

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
