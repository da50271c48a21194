"""Flow-NRG: the gradient of a reward of noisy latents bends the velocity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vlreward.config import NotNegative, locate
from vlreward.errors import ConfigError
from vlreward.flow.latent_reward import LatentReward
from vlreward.flow.math import wide
from vlreward.flow.models.base import Condition
from vlreward.flow.rollout import Velocity, rollout
from vlreward.flow.steer.base import Done, Steer, Studio
from vlreward.registry import register
from vlreward.types import Rollout, Sample


@register("flow_nrg")
@dataclass(kw_only=True)
class FlowNrg(Steer):
    """v - strength s / (1 - s) grad r(x, s, prompt), with the gradient of a latent reward; at s = 1 v itself.

    That samples from the model's distribution times exp(strength r), and moves the predicted picture by strength s^2 / (1 - s) grad r.
    `reward` is the folder of a latent reward, which `vlreward align` with `objective: latent_reward` (or `euphonium`) leaves in its run.
    Costs a pass of that small network a step and asks no judge.
    Known failure: it follows the latent reward where that knows nothing, so that with a large `strength` pictures turn to patterns.
    Source: Flow-NRG of arXiv 2501.13918 (Improving Video Generation with Human Feedback), whose weight is 100 on its own reward's scale.
    """

    reward: Path
    strength: NotNegative = 1.0

    def load(self, device: str) -> None:
        try:
            self.judge = LatentReward.load(locate(self.reward), device)
        except ConfigError as error:
            raise ConfigError(error.problem, "eval.steer.reward") from error

    def steer(self, studio: Studio, samples: Sequence[Sample], done: Done = lambda count: None) -> list[Rollout]:
        made: list[Rollout] = []
        for part in studio.batches(samples, 1):
            prompts = [sample.prompt for sample in part]
            velocity = self.guided(studio.velocity(part), self.judge, studio.condition(prompts))
            x0 = rollout(velocity, studio.plan, studio.noise(part, [0] * len(part)), lambda step: torch.empty(0)).x0
            made += studio.finished(part, x0)
            done(len(part))
        return made

    def guided(self, velocity: Velocity, judge: LatentReward, condition: Condition) -> Velocity:
        """The velocity with guidance."""

        def ask(x: torch.Tensor, s: torch.Tensor, policy: str = "train") -> torch.Tensor:
            v = velocity(x, s, policy)
            bend = torch.where(s < 1, s / (1 - s).clamp(min=1e-6), 0.0)
            return v - self.strength * wide(bend, x) * judge.gradient(x, s, condition) if self.strength else v

        return ask
