"""Short clips of moving objects, with the box of each object in each frame."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, replace
from typing import Any

import torch

from vlreward.data.media import Clip, Picture
from vlreward.tiny.scene import COLORS, Scene, Thing, crowd, draw

SPEED = 0.05
"""Relative to the picture's side, per frame."""
WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
FRAMES = 5
"""Of a glide."""
PACE = 0.1
"""A glide's speed."""


@dataclass(frozen=True)
class Motion:
    """A scene whose things move along straight lines and bounce off the borders."""

    start: Scene
    velocities: tuple[tuple[float, float], ...]
    frames: int

    def things(self, frame: int) -> tuple[Thing, ...]:
        """Where everything is at a frame."""
        return tuple(
            replace(thing, x=_bounce(thing.x + frame * vx, thing.side / 2), y=_bounce(thing.y + frame * vy, thing.side / 2))
            for thing, (vx, vy) in zip(self.start.things, self.velocities, strict=True)
        )

    def clip(self, width: int = 32, height: int | None = None) -> Clip:
        """[F,3,H,W]"""
        frames = [Picture(draw(self.things(f), width, height or width)).tensor for f in range(self.frames)]
        return Clip(torch.stack(frames))

    def boxes(self, width: int, height: int | None = None) -> list[list[list[float]]]:
        """[frame][thing] -> xyxy in pixels"""
        return [[thing.box(width, height or width) for thing in self.things(f)] for f in range(self.frames)]

    @property
    def caption(self) -> str:
        words = [f"a {thing.label} moving {_direction(*v)}" for thing, v in zip(self.start.things, self.velocities, strict=True)]
        return " and ".join(words)

    @property
    def target(self) -> dict[str, Any]:
        """What `motion_match` and `object_match` check."""
        pairs = zip(self.start.things, self.velocities, strict=True)
        motions = [{"label": thing.shape, "color": thing.color, "direction": _direction(*v)} for thing, v in pairs]
        return {"motions": motions, "objects": list(self.start.objects)}


def motion(rng: random.Random, count: int = 2, frames: int = 8) -> Motion:
    """`count` nameable things, each moving left, right, up or down."""
    start = crowd(rng, count)
    ways = ((SPEED, 0.0), (-SPEED, 0.0), (0.0, SPEED), (0.0, -SPEED))
    return Motion(start, tuple(rng.choice(ways) for _ in start.things), frames)


def glide(rng: random.Random, new: bool = False) -> Motion:
    """A circle that moves in one direction and meets no border.

    A quarter of the 24 kinds of color and direction is `new`: no shipped model has seen any, while each color and each direction was seen.
    """
    kinds = itertools.product(enumerate(COLORS), enumerate(WAYS))
    (_, color), (_, way) = rng.choice([kind for kind in kinds if (sum(place for place, _ in kind) % 4 == 0) == new])
    return gliding(rng, color, way)


def gliding(rng: random.Random, color: str, way: str) -> Motion:
    """A circle of this color that moves this way from anywhere, and meets no border."""
    shape, side, travel = "circle", rng.uniform(0.32, 0.38), PACE * (FRAMES - 1)
    free = 1 - side - 0.04
    center = []
    for step in WAYS[way]:
        low = 0.02 + side / 2 + (travel if step < 0 else 0)
        center.append(low + rng.random() * (free - abs(step) * travel))
    thing = Thing(color, shape, center[0], center[1], side)
    start = Scene((thing,), f"a {thing.label}", ({"label": shape, "color": color, "count": 1},))
    return Motion(start, ((PACE * WAYS[way][0], PACE * WAYS[way][1]),), FRAMES)


def _bounce(position: float, margin: float) -> float:
    """Reflect a coordinate into [margin, 1 - margin]."""
    span = 1 - 2 * margin
    offset = (position - margin) % (2 * span)
    return margin + min(offset, 2 * span - offset)


def _direction(vx: float, vy: float) -> str:
    return next(name for name, (x, y) in WAYS.items() if x * vx + y * vy > 0)
