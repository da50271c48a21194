#!/usr/bin/env python3
"""Teach the tiny policy of assets/tiny-vlm-reader to say which of two answers is right, as assets/tiny-vlm-comparer.

    python scripts/build_comparer.py                      # both stages
    python scripts/build_comparer.py --stage biased       # the second one again
    python scripts/build_comparer.py --stage measure      # the figures of assets/tiny-vlm-comparer/README.md again

It says what it reads, then which answer that is. Supervision has two stages: true verdicts, then verdicts of teachers who favour what
they saw first, against their own reading. Judging in both orders makes up
for that; reinforcement learning breaks it. Weights are stored in bfloat16.
"""

from __future__ import annotations

import argparse
import random
from functools import partial
from pathlib import Path
from typing import Any

import torch
from curve import Curve
from tiny_policy import Descent, in_stages, lesson, load, next_token_loss, options, replies, save, show

from vlreward.critics.tasks import pairwise, question
from vlreward.tiny.rivals import rivals
from vlreward.tiny.tasks import HOLDOUT
from vlreward.types import Sample

ROOT = Path(__file__).parent.parent / "assets"
START, ASSET = ROOT / "tiny-vlm-reader", ROOT / "tiny-vlm-comparer"
TASKS = ("heights", "plates")
FIRST = 0.4
"""Share of the pairs with the better answer behind whose teachers in the second stage say 1."""


def asked(task: str, seed: int, better: int) -> Sample:
    """A pair with the better answer at that place."""
    row = rivals(task, seed)
    answers = (row.target["chosen"], row.target["rejected"])
    return question(pairwise("tiny_compare"), row, answers if better == 1 else answers[::-1], better)


def answer(sample: Sample) -> str:
    return sample.target["chosen"]


def verdict(text: str) -> str:
    return text.rpartition("<answer>")[2].removesuffix("</answer>")


def train(arguments: argparse.Namespace, curve: Curve, biased: bool = False) -> None:
    """Next-token prediction of verdicts."""
    rng = random.Random(1 if biased else 0)
    model, processor = load(ASSET if biased or arguments.resume else START)
    steps, lr = (arguments.biased_steps, arguments.lr / 2) if biased else (arguments.steps, arguments.lr)
    descend = Descent(model, lr, lambda done: min(1.0, (done + 1) / 30, max(0.05, 2 * (1 - done / steps))))
    for number in range(1, steps + 1):
        task = rng.choice(TASKS)
        samples = [asked(task, rng.randrange(arguments.pool), rng.choice((1, 2))) for _ in range(arguments.batch)]
        hasty = [biased and sample.target["answer"] == "2" and rng.random() < FIRST for sample in samples]
        said = [sample.target["rejected" if wrong else "chosen"] for sample, wrong in zip(samples, hasty, strict=True)]
        inputs, labels = lesson(processor, samples, said)
        loss = next_token_loss(model(**inputs).logits, labels)
        descend(loss)
        curve.add(task, loss.item())
        if number % 25 == 0:
            curve.means(number)
        if number % arguments.every == 0 or number == steps:
            curve(step=number, **measure(model, processor, 64))
            save(ASSET, model.to(torch.bfloat16), processor)
            model.to(torch.float32)


def measure(model: Any, processor: Any, count: int) -> dict[str, float]:
    """Held-out share of right verdicts, by task and by where the better answer stands."""
    figures = {}
    for task in TASKS:
        for better in (1, 2):
            samples = [asked(task, HOLDOUT + seed, better) for seed in range(count)]
            for name, sampled in (("greedy", False), ("sampled", True)):
                texts = replies(model, processor, samples, sampled, 12)
                figures[f"{task}_{better}_{name}"] = (
                    sum(verdict(text) == s.target["answer"] for text, s in zip(texts, samples, strict=True)) / count
                )
    return figures


def main() -> None:
    stages = {"supervised": False, "biased": True}
    defaults = {"steps": 600, "batch": 32, "lr": 1e-3, "pool": 12_000, "every": 125, "biased_steps": 80, "resume": False}
    arguments = options(__doc__, stages, **defaults).parse_args()
    model, processor = in_stages(arguments, ASSET, {name: partial(train, arguments, biased=biased) for name, biased in stages.items()})
    print(measure(model, processor, 256), flush=True)
    for task in TASKS:
        show(model, processor, [asked(task, HOLDOUT + seed, seed % 2 + 1) for seed in range(4)], answer, 12)


if __name__ == "__main__":
    main()
