"""Tasks that are answered with lists and in steps: things found, changes, rankings, events in clips, descriptions."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cache

from PIL import Image

from vlreward.data.media import Picture
from vlreward.tiny.moments import Moments, moments
from vlreward.tiny.scene import COLORS, PAPER, SHAPES, Scene, Thing, draw, scene
from vlreward.types import Sample

CELL = 24
"""Pixels of a board's cell: what one visual token of the tiny policies covers."""
EDGE = 1
"""Pixels between a thing and its cell's border."""
CELLS = 4
"""Cells of a board, which lie in a row."""
FRAME = 48
"""Pixels of a clip's frames, in which things stand in quarters."""

Kind = tuple[str, str]
"""Color and shape."""


def detections(rng: random.Random) -> Sample:
    """Find all things of a color among others. target: boxes (one to three, pixels), labels (their shapes), size."""
    return _search(rng, "Find the {} things.")


def looks(rng: random.Random) -> Sample:
    """As `detections`, with a look at what is doubtful before the answer."""
    return _search(rng, "Look, then find the {} things.")


def changes(rng: random.Random) -> Sample:
    """What was put on an empty board; a picture before, one after. target: changes (one to three of place from 1, attribute, value)."""
    attribute = rng.choice(("color", "shape"))
    placed = {cell: _kind(rng) for cell in sorted(rng.sample(range(CELLS), rng.randint(1, CELLS - 1)))}
    made = [[cell + 1, attribute, color if attribute == "color" else shape] for cell, (color, shape) in placed.items()]
    pictures = tuple(Picture(board(things)) for things in ({}, placed))
    return Sample(id="", prompt=f"What {attribute} changed?", visuals=pictures, target={"changes": made})


def rankings(rng: random.Random) -> Sample:
    """Which of four things have a color, these first. target: relevant (one or two), candidates."""
    asked, *others = rng.sample([*COLORS], len(COLORS))
    relevant = sorted(rng.sample(range(CELLS), rng.randint(1, 2)))
    things = {cell: (asked if cell in relevant else rng.choice(others), rng.choice(SHAPES)) for cell in range(CELLS)}
    target = {"relevant": [str(cell + 1) for cell in relevant], "candidates": [str(cell + 1) for cell in range(CELLS)]}
    return Sample(id="", prompt=f"Rank the things for a {asked} thing.", visuals=(Picture(board(things)),), target=target)


def event(rng: random.Random) -> tuple[Moments, int]:
    """A clip of two things in different quarters of its frames, and which of them is asked for."""
    view = moments(rng)
    quarters = rng.sample(range(4), len(view.things))
    half, size = FRAME // 2, 20 / FRAME
    centres = [((0.5 + q % 2) * half / FRAME, (0.5 + q // 2) * half / FRAME) for q in quarters]
    things = tuple(Thing(t.color, t.shape, x, y, size) for t, (x, y) in zip(view.things, centres, strict=True))
    return Moments(things, view.spans), rng.randrange(len(things))


def events(rng: random.Random) -> Sample:
    """When and where a thing is to be seen in a clip, and its shape. target: spans (one, seconds), boxes (one, pixels), answer."""
    view, chosen = event(rng)
    thing = view.things[chosen]
    target = {"spans": [list(view.seconds(chosen))], "boxes": [thing.box(FRAME, FRAME)], "size": [FRAME, FRAME], "answer": thing.shape}
    return Sample(id="", prompt=f"When and where is the {thing.color} thing, and what?", visuals=(view.clip(FRAME),), target=target)


def descriptions(rng: random.Random) -> Sample:
    """A picture of one or two things. target: answer (its caption)."""
    view = scene(rng)
    while not _nameable(view):
        view = scene(rng)
    return Sample(id="", prompt="Describe the picture.", visuals=(Picture(view.picture(CELLS * CELL)),), target={"answer": view.caption})


def kinds(rng: random.Random) -> Sample:
    """The color and shape of the only thing. target: answer."""
    view = scene(rng, max_things=1)
    picture = Picture(view.picture(CELLS * CELL))
    return Sample(id="", prompt="What is this?", visuals=(picture,), target={"answer": view.things[0].label})


def board(things: Mapping[int, Kind]) -> Image.Image:
    """Things by cell, counted from the left, each as large as its cell lets it be; RGB, 96 x 24 pixels."""
    image = Image.new("RGB", (CELLS * CELL, CELL), PAPER)
    for cell, kind in things.items():
        image.paste(_tile(*kind), (cell * CELL, 0))
    return image


def cell_box(cell: int) -> list[int]:
    """xyxy in pixels of the thing in a board's cell"""
    return [cell * CELL + EDGE, EDGE, (cell + 1) * CELL - EDGE, CELL - EDGE]


def _search(rng: random.Random, prompt: str) -> Sample:
    asked, *others = rng.sample([*COLORS], len(COLORS))
    colors = [asked] * rng.randint(1, CELLS - 1)
    colors += [rng.choice(others) for _ in range(rng.randint(1, CELLS - len(colors)))]
    placed = {cell: (color, rng.choice(SHAPES)) for cell, color in zip(rng.sample(range(CELLS), len(colors)), colors, strict=True)}
    wanted = sorted(cell for cell, (color, _) in placed.items() if color == asked)
    target = {"boxes": [cell_box(cell) for cell in wanted], "labels": [placed[cell][1] for cell in wanted], "size": [CELLS * CELL, CELL]}
    return Sample(id="", prompt=prompt.format(asked), visuals=(Picture(board(placed)),), target=target)


def _nameable(view: Scene) -> bool:
    """Whether its caption only lists different things."""
    return not view.relations and len(view.things) == len(view.objects)


def _kind(rng: random.Random) -> Kind:
    return rng.choice([*COLORS]), rng.choice(SHAPES)


@cache
def _tile(color: str, shape: str) -> Image.Image:
    return draw((Thing(color, shape, 0.5, 0.5, 1 - 2 * EDGE / CELL),), CELL, CELL)
