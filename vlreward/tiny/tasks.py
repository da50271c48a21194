"""The tiny world as tasks: each turns a seed into a Sample with its ground truth in `target`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vlreward.config import Count
from vlreward.data.media import Picture
from vlreward.data.source import Source
from vlreward.registry import register
from vlreward.tiny.bars import bars
from vlreward.tiny.charts import chart
from vlreward.tiny.moments import moments
from vlreward.tiny.motion import glide, motion
from vlreward.tiny.observing import changes, descriptions, detections, events, kinds, looks, rankings
from vlreward.tiny.plates import plate
from vlreward.tiny.scene import COLORS, RELATIONS, SHAPES, Thing, crowd, plural, relation_holds, scene, tray, two
from vlreward.tiny.shots import shots
from vlreward.tiny.signs import sign
from vlreward.types import Sample

SIDE = 96
"""Pixels of the pictures that the tiny VLM reads."""
USUAL = 0.26
"""Side of an object of `grounding` relative to the picture's, in the middle between the smallest and the largest."""
HOLDOUT = 1_000_000_000
"""Seeds from here on are for evaluation: nothing shipped was trained on them."""


def grounding(rng: random.Random) -> Sample:
    """Find one named object among two or three. target: boxes (one, pixels), size, rate (which grows as the object shrinks)."""
    view = crowd(rng, rng.randint(2, 3))
    chosen = rng.randrange(len(view.things))
    thing = view.things[chosen]
    prompt = f"Where is the {thing.label}?"
    target = {"boxes": [view.boxes(SIDE)[chosen]], "size": [SIDE, SIDE], "label": thing.label, "rate": USUAL / thing.side}
    return _sample(prompt, view.picture(SIDE), target)


def counting(rng: random.Random) -> Sample:
    """How many of a shape. target: answer ('0' to '4')."""
    view = crowd(rng, rng.randint(1, 4))
    shape = rng.choice(SHAPES)
    count = sum(thing.shape == shape for thing in view.things)
    return _sample(f"How many {plural(shape)} are there?", view.picture(SIDE), {"answer": str(count)})


def color(rng: random.Random) -> Sample:
    """The colour of a shape that is there once. target: answer."""
    view = scene(rng, max_things=1)
    return _sample(f"What color is the {view.things[0].shape}?", view.picture(SIDE), {"answer": view.things[0].color})


def relation(rng: random.Random) -> Sample:
    """Whether a relation holds between two objects. target: answer (yes or no)."""
    view = crowd(rng, 2)
    first, second = view.things
    name = rng.choice(RELATIONS)
    holds = relation_holds(name, *view.boxes(SIDE))
    return _sample(f"Is the {first.label} {name} the {second.label}?", view.picture(SIDE), {"answer": "yes" if holds else "no"})


def objects(rng: random.Random) -> Sample:
    """A picture to be made. target: objects and relations for `object_match`."""
    view = scene(rng)
    return Sample(id="", prompt=view.caption, target=view.target)


def captions(rng: random.Random) -> Sample:
    """A picture with its true caption. target: objects and relations."""
    view = scene(rng)
    return Sample(id="", prompt=view.caption, visuals=(Picture(view.picture(SIDE)),), target=view.target)


def signs(rng: random.Random) -> Sample:
    """A printed sign. target: text (its transcription)."""
    view = sign(rng)
    return _sample("What is written here?", view.picture(), {"text": view.text})


def charts(rng: random.Random) -> Sample:
    """A chart with a question. target: answer, table (DePlot notation)."""
    view = chart(rng)
    question, answer = view.question
    return _sample(question, view.picture(), {"answer": answer, "table": view.table})


def motions(rng: random.Random) -> Sample:
    """A clip with its caption. target: tubes ([frame][thing] boxes in pixels), labels."""
    view = motion(rng)
    target = {"tubes": view.boxes(SIDE), "labels": [thing.label for thing in view.start.things]}
    return Sample(id="", prompt=view.caption, visuals=(view.clip(SIDE),), target=target)


def glides(rng: random.Random) -> Sample:
    """A clip to be made of one moving thing, with a true one. target: motions for `motion_match`, objects for `object_match`."""
    return _glide(rng, new=False)


def new_glides(rng: random.Random) -> Sample:
    """The same for kinds of color, shape and direction that no shipped model has seen."""
    return _glide(rng, new=True)


def _glide(rng: random.Random, new: bool) -> Sample:
    view = glide(rng, new)
    return Sample(id="", prompt=view.caption, visuals=(view.clip(),), target=view.target)


def tally(rng: random.Random) -> Sample:
    """How many things of a color. target: answer ('1' to '6')."""
    asked, *others = rng.sample([*COLORS], len(COLORS))
    count = rng.randint(1, 6)
    colors = [asked] * count + [rng.choice(others) for _ in range(rng.randint(0, 4))]
    view = tray(rng, [(color, rng.choice(SHAPES)) for color in colors])
    return _sample(f"How many {asked} things are there?", view.picture(SIDE), {"answer": str(count)})


def plates(rng: random.Random) -> Sample:
    """A plate of two to four letters. target: text (its transcription), answer (the same)."""
    view = plate(rng)
    return _sample("What is written here?", view.picture(), {"text": view.text, "answer": view.text})


def readings(rng: random.Random) -> Sample:
    """A plate again, to be thought about before it is read out. target: answer (its transcription)."""
    view = plate(rng)
    return _sample("Think, then read.", view.picture(), {"answer": view.text})


def heights(rng: random.Random) -> Sample:
    """The value of one bar of a chart. target: answer ('10' to '90')."""
    view = bars(rng, kinds=("bar",), colorful=True)
    chosen = rng.randrange(len(view.values))
    return _sample(f"What is the value of the {view.colors[chosen]} bar?", view.picture(), {"answer": str(view.values[chosen])})


def comparison(rng: random.Random) -> Sample:
    """Whether one bar of a chart is higher than another. target: answer (yes or no), colors and values of the two as asked."""
    view = bars(rng, kinds=("bar",), colorful=True)
    first, second = rng.sample(range(len(view.values)), 2)
    colors, values = [view.colors[first], view.colors[second]], [view.values[first], view.values[second]]
    target = {"answer": "yes" if values[0] > values[1] else "no", "colors": colors, "values": values}
    return _sample(f"Is the {colors[0]} bar higher than the {colors[1]} bar?", view.picture(), target)


def scripts(rng: random.Random) -> Sample:
    """A bar or line chart to be drawn again. target: code (a matplotlib script)."""
    view = bars(rng)
    return _sample("Write the code of this chart.", view.picture(), {"code": view.code})


def spans(rng: random.Random) -> Sample:
    """When a thing is visible in a clip. target: spans (one, seconds)."""
    view = moments(rng)
    chosen = rng.randrange(len(view.things))
    prompt = f"When is the {view.things[chosen].label} visible?"
    return Sample(id="", prompt=prompt, visuals=(view.clip(),), target={"spans": [list(view.seconds(chosen))]})


def reports(rng: random.Random) -> Sample:
    """Two things to be told of, from left to right. target: objects (label, color, box), evidence and boxes, labels, size; reasoning and
    answer (see `told`)."""
    view = two(rng)
    target = seen(view.things)
    return _sample("What is there?", view.picture(SIDE), target | told(view.things) | {"evidence": target["boxes"]})


def ordering(rng: random.Random) -> Sample:
    """Whether one of two things stands in a relation to the other. target: answer, question; objects, boxes and labels as asked, size."""
    view = two(rng)
    first, second = rng.sample(view.things, 2)
    name = rng.choice(RELATIONS)
    target = seen((first, second))
    question = {"subject": first.label, "relation": name, "object": second.label}
    target |= {"question": question, "answer": "yes" if relation_holds(name, *target["boxes"]) else "no"}
    return _sample(f"Is the {first.label} {name} the {second.label}?", view.picture(SIDE), target)


def seen(things: Sequence[Thing]) -> dict[str, Any]:
    """All there is to know of things in a picture, as a target."""
    boxes = [thing.box(SIDE, SIDE) for thing in things]
    objects = [{"label": thing.shape, "color": thing.color, "box": box} for thing, box in zip(things, boxes, strict=True)]
    return {"objects": objects, "boxes": boxes, "labels": [thing.label for thing in things], "size": [SIDE, SIDE]}


def told(things: Sequence[Thing]) -> dict[str, Any]:
    """How two things are told of, as the tiny policies write it: reasoning (each with its place) and answer (how they stand)."""
    first, second = things
    return {"reasoning": [in_place(thing) for thing in things], "answer": f" {first.label} {stands(first, second)} {second.label}."}


def in_place(thing: Thing) -> str:
    """A thing with its box in pixels, as a sentence."""
    return f" {thing.label} [{', '.join(str(round(value)) for value in thing.box(SIDE, SIDE))}]."


def stands(first: Thing, second: Thing) -> str:
    """How the first thing stands to the second."""
    return next(relation for relation in RELATIONS if relation_holds(relation, first.box(1, 1), second.box(1, 1)))


_ALL = (
    grounding, counting, color, relation, objects, captions, signs, charts, motions, tally, plates, heights, scripts, spans,
    glides, new_glides, detections, looks, changes, rankings, events, descriptions, kinds,
    reports, ordering, readings, shots, comparison,
)  # fmt: skip
TASKS: dict[str, Callable[[random.Random], Sample]] = {task.__name__: task for task in _ALL}


@register("tiny")
@dataclass(kw_only=True)
class TinySource(Source):
    """Samples of the tiny world, made as they are read: sample i of a seed is the same on every machine."""

    task: Literal[
        "grounding", "counting", "color", "relation", "objects", "captions", "signs", "charts", "motions", "tally", "plates", "heights",
        "glides", "new_glides",
        "scripts", "spans", "detections", "looks", "changes", "rankings", "events", "descriptions", "kinds", "reports", "ordering",
        "readings", "shots", "comparison",
    ]  # fmt: skip
    count: Count
    seed: int = 0
    holdout: bool = False
    """Take seeds that no shipped model was trained on."""

    def __iter__(self) -> Iterator[Sample]:
        base = (HOLDOUT if self.holdout else 0) + self.seed * 1_000_003
        for index in range(self.count):
            yield make(self.task, base + index)

    def __len__(self) -> int:
        return self.count

    def length(self) -> int:
        return self.count


def make(task: str, seed: int) -> Sample:
    """The sample of a task that follows from a seed; its id names both, and `target.task` the task."""
    made = TASKS[task](random.Random(f"{task}/{seed}"))
    return Sample(id=f"{task}-{seed}", prompt=made.prompt, visuals=made.visuals, target={**made.target, "task": task})


def _sample(prompt: str, picture: object, target: dict) -> Sample:
    return Sample(id="", prompt=prompt, visuals=(Picture(picture),), target=target)  # type: ignore[arg-type]
