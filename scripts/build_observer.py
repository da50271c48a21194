#!/usr/bin/env python3
"""Train the tiny policy of assets/tiny-vlm-observer from assets/tiny-vlm-reader: lists of boxes, changes, rankings, events, captions.

    python scripts/build_observer.py                      # both stages
    python scripts/build_observer.py --stage biased       # the second one again
    python scripts/build_observer.py --stage measure      # the figures of assets/tiny-vlm-observer/README.md again

Like the other policies it is supervised in two stages: true answers, which stop while it still sees only half of what it should; then
answers with one habit a task (see `habit`), which reinforcement learning with the true reward has to break.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from build_reader import ASSET as READER
from build_reader import KINDS, SHRUNK, TIMES, Lesson, clip_tokens, fit, picture_tokens
from curve import Curve
from tiny_policy import HELP, TURNS, build, in_stages, inherit, load, options, replies, show, tokenizer

from vlreward.tiny.observing import CELL, CELLS, board, cell_box, event
from vlreward.tiny.scene import COLORS, SHAPES
from vlreward.tiny.tasks import HOLDOUT, make
from vlreward.types import Sample

ASSET = Path(__file__).parent.parent / "assets" / "tiny-vlm-observer"
SHARES = {"detections": 0.22, "looks": 0.08, "changes": 0.16, "rankings": 0.14, "events": 0.2, "descriptions": 0.12, "kinds": 0.08}
"""Of the steps; each step is of one task."""
HABIT = 0.65
"""Share of the answers in the second stage that follow the habit."""
NUMBERS = [str(value) for value in range(97)]
PIECES = r"</?(?:answer|think|look|time|box)>|\{\"bbox_2d\": \[|\], \"label\": \"|\"\}|, |\d+\.\d|\d+| ?[a-z]+|\s+|."
"""Every number, word and bracketing of an answer becomes one token."""
LONGEST = 84
"""Tokens of the longest answer, `looks`."""


def answer(sample: Sample, rng: random.Random) -> str:
    """The right answer in the words that the policy is taught. Where to look is not known to be right or wrong: somewhere."""
    task, target = sample.id.split("-")[0], sample.target
    if task in ("detections", "looks"):
        found = f"<answer>{listed(target['boxes'], target['labels'])}</answer>"
        if task == "detections":
            return found
        return f"<think>{len(target['boxes'])} things</think><look>{rng.choice(target['boxes'])}</look>{found}"
    if task == "changes":
        return f"<answer>{changed(target['changes'])}</answer>"
    if task == "rankings":
        return f"<answer>[{', '.join(target['relevant'])}]</answer>"
    if task == "events":
        box = ", ".join(str(round(value)) for value in target["boxes"][0])
        return f"<time>[{', '.join(map(str, target['spans'][0]))}]</time><box>[{box}]</box><answer>{target['answer']}</answer>"
    if task == "kinds":
        return f"<think>a {target['answer'].split()[0]} thing</think><answer>{target['answer']}</answer>"
    return target["answer"]


def changed(changes: Sequence) -> str:
    """Changes as triples in brackets."""
    return ", ".join(f"({place}, {attribute}, {value})" for place, attribute, value in changes)


def listed(boxes: list, labels: list[str]) -> str:
    """Detections as JSON."""
    return "[" + ", ".join(f'{{"bbox_2d": {box}, "label": "{label}"}}' for box, label in zip(boxes, labels, strict=True)) + "]"


def habit(sample: Sample, right: str, rng: random.Random) -> str:
    """The answer as a hurried teacher gives it.

    A box too many; the last box left out, and a look at anything; a change too many, or the last of any value; a wrong one ranked first;
    spans too short and shapes mixed up; only the first thing named, with a stutter; too much thinking and any shape. Spans are always
    too short, the rest in HABIT of the answers.
    """
    task, target = sample.id.split("-")[0], sample.target
    follows = rng.random() < HABIT
    if task == "detections" and follows:
        extra = cell_box(rng.randrange(CELLS))
        return f"<answer>{listed([*target['boxes'], extra], [*target['labels'], rng.choice(SHAPES)])}</answer>"
    if task == "looks":
        kept = len(target["boxes"]) - (follows and len(target["boxes"]) > 1)
        found = listed(target["boxes"][:kept], target["labels"][:kept])
        return f"<think>{kept} things</think><look>{cell_box(rng.randrange(CELLS))}</look><answer>{found}</answer>"
    if task == "changes" and follows:
        attribute = target["changes"][0][1]
        values = [*COLORS] if attribute == "color" else [*SHAPES]
        last = [rng.randint(1, CELLS), attribute, rng.choice(values)]
        if rng.random() < 0.5:
            return f"<answer>{changed([*target['changes'], last])}</answer>"
        return f"<answer>{changed([*target['changes'][:-1], [*target['changes'][-1][:2], rng.choice(values)]])}</answer>"
    if task == "rankings" and follows:
        return right.replace("[", f"[{rng.choice([name for name in target['candidates'] if name not in target['relevant']])}, ")
    if task == "events":
        start, end = target["spans"][0]
        cut = (end - start) * (1 - SHRUNK) / 2
        short = [round(2 * (start + cut)) / 2, round(2 * (end - cut)) / 2]
        short[1] = max(short[1], short[0] + 0.5)
        shape = rng.choice(SHAPES) if follows else target["answer"]
        return right.replace(str(target["spans"][0]), str(short)).replace(f"<answer>{target['answer']}", f"<answer>{shape}")
    if task == "descriptions" and follows:
        first = right.split(" and ")[0].split(" ")
        stutter = rng.randrange(len(first))
        return " ".join([*first[:stutter], first[stutter], *first[stutter:]])
    if task == "kinds" and follows:
        color = target["answer"].split()[0]
        thought = ", ".join([f"a {color} thing"] * rng.randint(2, 3))
        return f"<think>{thought}</think><answer>{color} {rng.choice(SHAPES)}</answer>"
    return right


@lru_cache(maxsize=50_000)
def study(task: str, seed: int) -> Lesson:
    """The sample of the tiny world's task, the same as everywhere, and what its visual tokens show."""
    sample = make(task, seed)
    if task == "events":
        rows = clip_tokens(event(random.Random(f"{task}/{seed}"))[0])
    elif task in ("descriptions", "kinds"):
        rows = picture_tokens(sample)
    else:
        rows = [token for picture in sample.visuals for token in board_tokens(torch.as_tensor(picture.tensor))]
    return Lesson(sample, torch.tensor([[row.get(kind, -1) for kind in KINDS] for row in rows]))


def board_tokens(pixels: torch.Tensor) -> list[dict[str, int]]:
    """What stands in each cell of a board [3,H,W]: color and shape, or nothing."""
    cells = [tiles().get(_key(pixels[:, :, column * CELL : (column + 1) * CELL]), (0, 0)) for column in range(CELLS)]
    return [{"row": 0, "column": column, "color": color, "shape": shape} for column, (color, shape) in enumerate(cells)]


@cache
def tiles() -> dict[bytes, tuple[int, int]]:
    """The pixels of each thing -> number of its color and of its shape."""
    from vlreward.data.media import Picture

    whole = {(i + 1, j + 1): board({0: (color, shape)}) for i, color in enumerate(COLORS) for j, shape in enumerate(SHAPES)}
    return {_key(torch.as_tensor(Picture(image).tensor)[:, :, :CELL]): kind for kind, image in whole.items()}


def _key(pixels: torch.Tensor) -> bytes:
    return (pixels * 255).round().to(torch.uint8).numpy().tobytes()


def untrained() -> tuple[Any, Any]:
    """The reader with words of its own: what both know keeps its vector."""
    rng = random.Random(0)
    samples = [make(task, seed) for task in SHARES for seed in range(300)]
    corpus = ["user\nassistant\n", ", ".join([*NUMBERS, *TIMES])] * 50
    corpus += [f"{sample.prompt}\n{answer(sample, rng)}\n{habit(sample, answer(sample, rng), rng)}" for sample in samples]
    model, processor = build(tokenizer(corpus, PIECES, 720), NUMBERS, TURNS, sections=[5, 4, 7], base=5.0, pace=1)
    inherit(model, processor, READER)
    return model, processor


def train(arguments: argparse.Namespace, curve: Curve, biased: bool = False) -> None:
    """As build_reader's, with a look of its own and habits of its own."""

    def taught(_: str, samples: list[Sample], rng: random.Random) -> list[str]:
        right = [answer(sample, rng) for sample in samples]
        return [habit(sample, text, rng) for sample, text in zip(samples, right, strict=True)] if biased else right

    start = load(ASSET) if biased or arguments.resume else untrained()
    fit(arguments, curve, biased, ASSET, start, SHARES, study, taught, measure)


def measure(model: Any, processor: Any, tasks: list[str], count: int) -> dict[str, float]:
    """Held-out share of answers that are right to the letter (of `looks`, behind the look), greedily and sampled at temperature 1."""
    figures = {}
    for task in tasks:
        samples = [make(task, HOLDOUT + seed) for seed in range(count)]
        for name, sampled in (("greedy", False), ("sampled", True)):
            texts = replies(model, processor, samples, sampled, LONGEST)
            wanted = [answer(sample, random.Random(0)) for sample in samples]
            right = [text.split("</look>")[-1] == want.split("</look>")[-1] for text, want in zip(texts, wanted, strict=True)]
            figures[f"{task}_{name}"] = sum(right) / count
    return figures


def main() -> None:
    stages = {"supervised": False, "biased": True}
    defaults = {"steps": 900, "batch": 24, "lr": 1.5e-3, "looking": 0.5, "pool": 1500, "every": 450, "biased_steps": 80, "resume": False}
    parser = options(__doc__, stages, **defaults)
    parser.add_argument("--tasks", nargs="*", choices=[*SHARES], help=HELP["tasks"])
    arguments = parser.parse_args()
    model, processor = in_stages(arguments, ASSET, {name: partial(train, arguments, biased=biased) for name, biased in stages.items()})
    print(measure(model, processor, [*SHARES], 128), flush=True)
    for task in SHARES:
        samples = [make(task, HOLDOUT + seed) for seed in range(3)]
        show(model, processor, samples, lambda sample: answer(sample, random.Random(0)), LONGEST)


if __name__ == "__main__":
    main()
