"""Short clips in which things come and go, with the time at which each is there."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch

from vlreward.data.media import Clip, Picture
from vlreward.tiny.scene import Thing, crowd, draw

FPS = 2.0
FRAMES = 16
SIZES = (0.36, 0.44)


@dataclass(frozen=True)
class Moments:
    """Things that stand still, each visible from one frame to before another."""

    things: tuple[Thing, ...]
    spans: tuple[tuple[int, int], ...]
    """[thing] -> first frame, frame after the last"""

    def clip(self, width: int = 48) -> Clip:
        """[F,3,H,W]"""
        shown = [tuple(t for t, (a, b) in zip(self.things, self.spans, strict=True) if a <= f < b) for f in range(FRAMES)]
        drawn = {things: Picture(draw(things, width, width)).tensor for things in set(shown)}
        return Clip(torch.stack([drawn[things] for things in shown]), fps=FPS)

    def seconds(self, thing: int) -> tuple[float, float]:
        """When a thing appears and when it is gone."""
        first, after = self.spans[thing]
        return first / FPS, after / FPS


def moments(rng: random.Random) -> Moments:
    """Two things of different colors, each there for one to seven of the clip's eight seconds."""
    things = crowd(rng, 2, SIZES).things
    while things[0].color == things[1].color:
        things = crowd(rng, 2, SIZES).things
    spans = []
    for _ in things:
        length = rng.randint(2, FRAMES - 2)
        first = rng.randint(0, FRAMES - length)
        spans.append((first, first + length))
    return Moments(things, tuple(spans))
