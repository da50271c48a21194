#!/usr/bin/env python3
"""Teach the tiny policy of assets/tiny-vlm-reader to play four roles about one question, as assets/tiny-vlm-agents.

    python scripts/build_agents.py                      # all stages: half an hour of a core
    python scripts/build_agents.py --stage measure      # the figures of assets/tiny-vlm-agents/README.md again

The question is `comparison`: which of two bars of a chart is higher. The policy is taught to answer it at once, and to plan (which bars to
read), to execute a step (read one), to judge plan and steps, and to answer from what was read. Its teachers of answers at once, of planning
and of execution are hurried (see `row`); those who judge are not, and whoever is told of a mistake looks again.
"""

from __future__ import annotations

import argparse
import random
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from curve import Curve
from tiny_policy import Descent, in_stages, lesson, load, next_token_loss, options, replies, save, show

from vlreward.tiny.bars import TOP
from vlreward.tiny.scene import COLORS
from vlreward.tiny.tasks import HOLDOUT, make
from vlreward.types import Sample

ROOT = Path(__file__).parent.parent / "assets"
START, ASSET = ROOT / "tiny-vlm-reader", ROOT / "tiny-vlm-agents"
HASTY_PLANS = 0.3
"""Share of the plans that ask for a wrong bar."""
HASTY_LOOKS = 0.5
"""Share of the readings that are ten too low."""
HASTY_ANSWERS = 0.5
"""Share of the answers given at once, in the last stage, that are yes without a look."""
STAGES = {"supervised": (1000, 1e-3), "longer": (800, 7e-4), "judging": (1000, 7e-4), "hurried": (150, 4e-4)}
"""Optimiser steps and highest learning rate; each goes on where the one before ended, on other rows."""
SHARES = {
    "supervised": {"direct": 0.08, "plan": 0.12, "execute": 0.22, "judge": 0.48, "answer": 0.1},
    "longer": {"direct": 0.08, "plan": 0.12, "execute": 0.22, "judge": 0.48, "answer": 0.1},
    "judging": {"direct": 0.05, "plan": 0.08, "execute": 0.12, "judge": 0.7, "answer": 0.05},
    "hurried": {"hasty": 0.2, "plan": 0.2, "execute": 0.2, "judge": 0.2, "answer": 0.2},
}
"""Of a stage's steps; each step is of one role. That a reading is ten too low is what takes longest to see."""
ROLES = tuple(SHARES["supervised"])


def step(color: str) -> str:
    return f"What is the value of the {color} bar?"


def other(colors: list[str], rng: random.Random) -> str:
    return rng.choice([color for color in COLORS if color not in colors])


@lru_cache(maxsize=50_000)
def question(seed: int) -> Sample:
    return make("comparison", seed)


def row(role: str, sample: Sample, rng: random.Random) -> tuple[Sample, str]:
    """What the role is asked about a sample, and what its teacher says."""
    colors, values, right = list(sample.target["colors"]), list(sample.target["values"]), f"<answer>{sample.target['answer']}</answer>"
    which, warned = rng.randrange(2), rng.random() < 0.4
    if role == "direct":
        return sample, right
    if role == "hasty":
        return sample, "<answer>yes</answer>" if rng.random() < HASTY_ANSWERS else right
    if role == "plan":
        hasty = [*colors]
        hasty[which] = other(colors, rng)
        if warned:
            return asked(sample, f"Plan: {sample.prompt} Not {hasty[which]}"), "\n".join(map(step, colors))
        return asked(sample, f"Plan: {sample.prompt}"), "\n".join(map(step, hasty if rng.random() < HASTY_PLANS else colors))
    if role == "execute":
        low = max(values[which] - 10, 0)
        if warned:
            found = mistake(colors, which, low, rng)
            return asked(sample, f"{step(colors[which])} Not {found}"), f"<answer>{values[which]}</answer>"
        return asked(sample, step(colors[which])), f"<answer>{low if rng.random() < HASTY_LOOKS else values[which]}</answer>"
    if role == "answer":
        return asked(sample, f"Answer: {sample.prompt}\n{process(colors, values)}", False), right
    seen, verdict = [*values], "right</verdict>"
    if rng.random() < HASTY_PLANS:
        colors[which] = other(colors, rng)
        verdict = f"plan</verdict><mistake>{colors[which]}</mistake>"
    elif rng.random() < 0.6:
        values[which] = max(values[which] - 10, 0)
        if rng.random() < 0.4:
            values[1 - which] = max(values[1 - which] - 10, 0)
            which = 0
        verdict = f"execution</verdict><mistake>{colors[which]} {values[which]}</mistake>"
    looked = ", ".join(
        f"{color} {value} is {true} {'not' if color not in sample.target['colors'] else 'right' if value == true else 'low'}"
        for color, value, true in zip(colors, values, seen, strict=True)
    )
    said = f"{' '.join(sample.target['colors'])}: {looked} <verdict>{verdict}"
    return asked(sample, f"Judge: {sample.prompt}\n{process(colors, values)}"), said


def mistake(colors: list[str], which: int, low: int, rng: random.Random) -> str:
    """What a judge found, told to whoever reads one of the bars again: a wrong reading of this bar or of another, or a wrong bar."""
    color = rng.choice([colors[which], colors[which], colors[1 - which], other(colors, rng)])
    if rng.random() < 0.25:
        return color
    return f"{color} {low if color == colors[which] else rng.randrange(0, TOP, 10)}"


def process(colors: list[str], values: list[int]) -> str:
    """What was read of each bar, right or wrong."""
    return "\n".join(f"{step(color)} <answer>{value}</answer>" for color, value in zip(colors, values, strict=True))


def asked(sample: Sample, prompt: str, pictures: bool = True) -> Sample:
    return Sample(id=sample.id, prompt=prompt, visuals=sample.visuals if pictures else (), target=sample.target)


def train(stage: str, arguments: argparse.Namespace, curve: Curve) -> None:
    """Next-token prediction of what the teachers of all roles say."""
    steps, lr = STAGES[stage]
    rng = random.Random([*STAGES].index(stage))
    model, processor = load(START if stage == "supervised" else ASSET)
    descend = Descent(model, lr, lambda done: min(1.0, (done + 1) / 30, max(0.05, 2 * (1 - done / steps))))
    shares = SHARES[stage]
    for number in range(1, steps + 1):
        [role] = rng.choices([*shares], [*shares.values()])
        rows = [row(role, question(rng.randrange(arguments.pool)), rng) for _ in range(arguments.batch)]
        inputs, labels = lesson(processor, *map(list, zip(*rows, strict=True)))
        loss = next_token_loss(model(**inputs).logits, labels)
        descend(loss)
        curve.add(role, loss.item())
        if number % 25 == 0:
            curve.means(number)
        if number % arguments.every == 0 or number == steps:
            curve(step=number, **measure(model, processor, 128))
            save(ASSET, model, processor)


def measure(model: Any, processor: Any, count: int) -> dict[str, float]:
    """Held-out shares of answers, readings and verdicts that are as the teachers', asked as they ask; of plans that are right."""
    rng = random.Random(0)
    figures = {}
    for role in ROLES:
        rows = [row(role, make("comparison", HOLDOUT + seed), rng) for seed in range(count)]
        texts = replies(model, processor, [sample for sample, _ in rows], role != "judge", 160)
        right = ["\n".join(map(step, sample.target["colors"])) if role == "plan" else want for sample, want in rows]
        figures[role] = sum(verdict(said) == verdict(want) for said, want in zip(texts, right, strict=True)) / count
    return figures


def verdict(text: str) -> str:
    """A judge's last verdict; any other text as it is."""
    return text.rsplit("<verdict>", 1)[-1].split("</verdict>", 1)[0].strip()


def main() -> None:
    arguments = options(__doc__, STAGES, batch=32, pool=12_000, every=250).parse_args()
    model, processor = in_stages(arguments, ASSET, {stage: partial(train, stage, arguments) for stage in STAGES})
    print(measure(model, processor, 256), flush=True)
    rng = random.Random(1)
    for role in ROLES:
        rows = [row(role, make("comparison", HOLDOUT + seed), rng) for seed in range(3)]
        right = {sample.prompt: want for sample, want in rows}
        show(model, processor, [sample for sample, _ in rows], lambda sample, right=right: right[sample.prompt], 90)


if __name__ == "__main__":
    main()
