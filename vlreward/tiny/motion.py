"""Short clips of moving objects, with the box of each object in each frame."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch

from vlreward.data.media import Clip, Picture
from vlreward.tiny.scene import Scene, Thing, crowd, draw

SPEED = 0.05
"""Relative to the picture's side, per frame."""


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


def motion(rng: random.Random, count: int = 2, frames: int = 8) -> Motion:
    """`count` nameable things, each moving left, right, up or down."""
    start = crowd(rng, count)
    ways = ((SPEED, 0.0), (-SPEED, 0.0), (0.0, SPEED), (0.0, -SPEED))
    return Motion(start, tuple(rng.choice(ways) for _ in start.things), frames)


def _bounce(position: float, margin: float) -> float:
    """Reflect a coordinate into [margin, 1 - margin]."""
    span = 1 - 2 * margin
    offset = (position - margin) % (2 * span)
    return margin + min(offset, 2 * span - offset)


def _direction(vx: float, vy: float) -> str:
    if vx:
        return "right" if vx > 0 else "left"
    return "down" if vy > 0 else "up"
