#!/usr/bin/env python3
"""Teach the tiny policy of assets/tiny-vlm to tell what it sees, with places, as assets/tiny-vlm-teller.

    python scripts/build_teller.py                      # both stages
    python scripts/build_teller.py --stage biased       # the second one again
    python scripts/build_teller.py --stage measure      # the figures of assets/tiny-vlm-teller/README.md again

Two tasks of the tiny world: `reports` (two things, their places, how they stand to each other) and `ordering` (the same two places as
reasons for a yes or no). Supervision has two stages: true answers, then answers with the habits of hurried teachers (see `habit`):
wrong colors, things that are not there, relations and conclusions turned round. Reinforcement learning has to break these.
"""

from __future__ import annotations

import argparse
import random
import re
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from curve import Curve
from tiny_policy import Descent, in_stages, lesson, load, options, replies, save, show

from vlreward.tiny.scene import COLORS, RELATIONS, SHAPES, relation_holds
from vlreward.tiny.tasks import HOLDOUT, SIDE, make
from vlreward.types import Sample

ROOT = Path(__file__).parent.parent / "assets"
START, ASSET = ROOT / "tiny-vlm", ROOT / "tiny-vlm-teller"
TASKS = ("reports", "ordering")
HABIT = 0.35
"""Share of the answers in the second stage that have each habit."""
TURNED = {"left of": "right of", "right of": "left of", "above": "below", "below": "above", "yes": "no", "no": "yes"}


def place(name: str, box: list[float]) -> str:
    return f" {name} [{', '.join(str(round(value)) for value in box)}]."


def named(thing: dict[str, Any]) -> str:
    return f"{thing['color']} {thing['label']}"


def stands(first: list[float], second: list[float]) -> str:
    """How the first box stands to the second."""
    return next(relation for relation in RELATIONS if relation_holds(relation, first, second))


def answer(sample: Sample) -> str:
    """The right answer in the words that the policy is taught."""
    target = sample.target
    if "question" in target:
        places = "".join(place(*pair) for pair in zip(target["labels"], target["boxes"], strict=True))
        return f"{places}<answer>{target['answer']}</answer>"
    first, second = target["objects"]
    relation = stands(first["box"], second["box"])
    return f"{place(named(first), first['box'])}{place(named(second), second['box'])} {named(first)} {relation} {named(second)}."


def habit(sample: Sample, rng: random.Random) -> str:
    """The answer as a hurried teacher gives it.

    A color is wrong, a third thing is invented, the relation or the conclusion is turned round: each in HABIT of the answers.
    """
    target = sample.target
    if "question" in target:
        right = answer(sample)
        return right if rng.random() >= HABIT else right.replace(target["answer"] + "<", TURNED[target["answer"]] + "<")
    things = [dict(thing) for thing in target["objects"]]
    relation = stands(things[0]["box"], things[1]["box"])
    if rng.random() < HABIT:
        thing = rng.choice(things)
        thing["color"] = rng.choice([color for color in COLORS if color not in {thing["color"] for thing in things}])
    places = [place(named(thing), thing["box"]) for thing in things]
    if rng.random() < HABIT:
        shape = rng.choice([shape for shape in SHAPES if shape not in {thing["label"] for thing in things}])
        left, top, side = rng.randint(2, 60), rng.randint(2, 60), rng.randint(20, 34)
        places.append(place(f"{rng.choice([*COLORS])} {shape}", [left, top, left + side, top + side]))
    relation = TURNED[relation] if rng.random() < HABIT else relation
    return f"{''.join(places)} {named(things[0])} {relation} {named(things[1])}."


@lru_cache(maxsize=50_000)
def question(task: str, seed: int) -> Sample:
    return make(task, seed)


def train(arguments: argparse.Namespace, curve: Curve, biased: bool = False) -> None:
    """Next-token prediction of the answers; numbers near the right one are less wrong."""
    rng = random.Random(1 if biased else 0)
    model, processor = load(ASSET if biased or arguments.resume else START)
    steps, lr = (arguments.biased_steps, arguments.lr / 2) if biased else (arguments.steps, arguments.lr)
    descend = Descent(model, lr, lambda step: min(1.0, (step + 1) / 30, max(0.05, 2 * (1 - step / steps))))
    numbers = torch.tensor([processor.tokenizer.convert_tokens_to_ids(str(value)) for value in range(SIDE + 1)])
    values = torch.full((model.get_input_embeddings().weight.shape[0],), -1)
    values[numbers] = torch.arange(len(numbers))
    near = torch.softmax(-((torch.arange(len(numbers))[None] - torch.arange(len(numbers))[:, None]) ** 2) / (2 * 1.5**2), 1)
    total, count = 0.0, 0
    for step in range(1, steps + 1):
        samples = [question(rng.choice(TASKS), rng.randrange(arguments.pool)) for _ in range(arguments.batch)]
        inputs, labels = lesson(processor, samples, [habit(sample, rng) if biased else answer(sample) for sample in samples])
        spoken = labels[:, 1:] != -100
        logits, said = model(**inputs).logits[:, :-1][spoken], labels[:, 1:][spoken]
        wanted = F.one_hot(said, logits.shape[-1]).float()
        counted = values[said] >= 0
        wanted[counted] = torch.zeros_like(wanted[counted]).index_copy(1, numbers, near[values[said][counted]])
        loss = F.cross_entropy(logits, wanted)
        descend(loss)
        total, count = total + loss.item(), count + 1
        if step % 50 == 0:
            curve(step=step, loss=total / count)
            total, count = 0.0, 0
        if step % arguments.every == 0 or step == steps:
            curve(step=step, **measure(model, processor, 64))
            save(ASSET, model, processor)


def measure(model: Any, processor: Any, count: int) -> dict[str, float]:
    """Held-out shares, sampled at temperature 1: of reports and conclusions that are right in every word, places aside."""
    figures = {}
    for task in TASKS:
        samples = [make(task, HOLDOUT + seed) for seed in range(count)]
        texts = replies(model, processor, samples, True, 64)
        right = sum(words(text) == words(answer(sample)) for text, sample in zip(texts, samples, strict=True))
        figures[f"{task}_words"] = right / count
    return figures


def words(text: str) -> list[str]:
    """The text without its numbers."""
    return re.sub(r"\[[^\]]*\]", "", text).split()


def main() -> None:
    stages = {"supervised": False, "biased": True}
    parser = options(__doc__, stages, steps=300, batch=40, lr=1e-3, pool=12_000, every=150, biased_steps=60, resume=False)
    arguments = parser.parse_args()
    model, processor = in_stages(arguments, ASSET, {name: partial(train, arguments, biased=biased) for name, biased in stages.items()})
    print(measure(model, processor, 256), flush=True)
    for task in TASKS:
        show(model, processor, [make(task, HOLDOUT + seed) for seed in range(4)], answer, 64)


if __name__ == "__main__":
    main()
