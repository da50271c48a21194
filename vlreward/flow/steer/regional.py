"""Regional reward guidance: in marked regions a trained generator goes further the way that training led it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from vlreward.config import NotNegative
from vlreward.flow.regions import coverage, regions_of
from vlreward.flow.rollout import Velocity, rollout
from vlreward.flow.steer.base import Done, Steer, Studio
from vlreward.registry import register
from vlreward.types import Rollout, Sample


@register("regional")
@dataclass(kw_only=True)
class Regional(Steer):
    """v + (strength - 1) (v - v_base) in the boxes of `target.regions`, v elsewhere; a sample without boxes is guided everywhere.

    A generator that preferences made of the base samples base * exp(reward / beta), so that the difference of the two scores is the
    reward's gradient over beta: `strength` 1 is the generator itself, 0 the base, and more than 1 a larger reward than it was trained
    to. The generator's own weights come from `generator.adapter`. Costs twice the network passes and no judgement.
    Known failure: far above 1 velocities leave what either model knows, and colours burn out.
    Source: GlyphPrinter, arXiv 2603.15616, of which only its abstract's account was at hand: that it samples from the optimal
    distribution of its region-grouped DPO with a strength of choice; the formula is what that comes to for a velocity.
    """

    policies: ClassVar[frozenset[str]] = frozenset({"base"})
    strength: NotNegative = 2.0

    def steer(self, studio: Studio, samples: Sequence[Sample], done: Done = lambda count: None) -> list[Rollout]:
        made: list[Rollout] = []
        for part in studio.batches(samples, 1):
            velocity = self.guided(studio.velocity(part), self.mask(part, studio.shape).to(studio.device))
            x0 = rollout(velocity, studio.plan, studio.noise(part, [0] * len(part)), lambda step: torch.empty(0)).x0
            made += studio.finished(part, x0)
            done(len(part))
        return made

    def mask(self, samples: Sequence[Sample], shape: Sequence[int]) -> torch.Tensor:
        """[B,1,..,H,W] where the latents of each sample are guided."""
        height, width = shape[-2:]
        found = [[region.box for region in regions_of(sample.target, sample.id)] or [(0.0, 0.0, 1.0, 1.0)] for sample in samples]
        masks = torch.stack([coverage(boxes, height, width) for boxes in found])
        return masks.view(len(samples), *[1] * (len(shape) - 2), height, width)

    def guided(self, velocity: Velocity, mask: torch.Tensor) -> Velocity:
        """The velocity with guidance."""

        def ask(x: torch.Tensor, s: torch.Tensor, policy: str = "train") -> torch.Tensor:
            v = velocity(x, s, policy)
            return v + (self.strength - 1) * mask * (v - velocity(x, s, "base"))

        return ask
