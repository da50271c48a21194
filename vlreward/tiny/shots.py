"""Clips of two shots, in each of which two things are to be seen: what is beside a thing shows only in its own shot."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch

from vlreward.data.media import Clip, Picture
from vlreward.tiny.moments import FPS, FRAMES
from vlreward.tiny.scene import COLORS, SHAPES, Thing, draw
from vlreward.types import Sample

FRAME = 48
"""Pixels of the frames, in which things stand in quarters."""
SIDE = 20 / FRAME
SHORTEST = 4
"""Frames of a shot, at least."""


@dataclass(frozen=True)
class Shots:
    """Two pairs of things of four colors, and the frame with which the second shot begins."""

    pairs: tuple[tuple[Thing, Thing], tuple[Thing, Thing]]
    cut: int

    def clip(self) -> Clip:
        """[F,3,H,W]"""
        first, second = (Picture(draw(pair, FRAME, FRAME)).tensor for pair in self.pairs)
        return Clip(torch.stack([first] * self.cut + [second] * (FRAMES - self.cut)), fps=FPS)

    def seconds(self, shot: int) -> tuple[float, float]:
        """When a shot begins and ends."""
        return ((0.0, self.cut / FPS), (self.cut / FPS, FRAMES / FPS))[shot]


def shots(rng: random.Random) -> Sample:
    """The color of what is to be seen along with a thing. target: answer, evidence_spans (its shot, in seconds)."""
    colors = rng.sample([*COLORS], 4)
    things = []
    for pair in (colors[:2], colors[2:]):
        quarters = rng.sample(range(4), len(pair))
        placed = [((0.5 + q % 2) / 2, (0.5 + q // 2) / 2) for q in quarters]
        things.append(tuple(Thing(color, rng.choice(SHAPES), x, y, SIDE) for color, (x, y) in zip(pair, placed, strict=True)))
    view = Shots((things[0], things[1]), rng.randint(SHORTEST, FRAMES - SHORTEST))
    shot, chosen = rng.randrange(2), rng.randrange(2)
    target = {"answer": view.pairs[shot][1 - chosen].color, "evidence_spans": [list(view.seconds(shot))]}
    prompt = f"What color is beside the {view.pairs[shot][chosen].color} thing?"
    return Sample(id="", prompt=prompt, visuals=(view.clip(),), target=target)
