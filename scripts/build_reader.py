#!/usr/bin/env python3
"""Train the tiny policy of assets/tiny-vlm-reader from nothing: counts, letters, charts, chart code, and times in clips.

    python scripts/build_reader.py                      # both stages
    python scripts/build_reader.py --stage biased       # the second one again
    python scripts/build_reader.py --stage measure      # the figures of assets/tiny-vlm-reader/README.md again

Like assets/tiny-vlm, supervision has two stages: true answers, until the policy is good at all five tasks; then answers with one
habit a task, as hurried teachers have them (see `habit`), which reinforcement learning with the true reward has to break.
"""

from __future__ import annotations

import argparse
import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from curve import Curve
from tiny_policy import (
    HELP,
    MERGE,
    PATCH,
    TURNS,
    Descent,
    build,
    in_stages,
    lesson,
    load,
    next_token_loss,
    options,
    replies,
    save,
    show,
    tokenizer,
)

from vlreward.tiny.bars import Bars, bars
from vlreward.tiny.moments import FRAMES, Moments, moments
from vlreward.tiny.plates import ROOM, Plate, plate
from vlreward.tiny.scene import COLORS, SHAPES, Thing
from vlreward.tiny.tasks import HOLDOUT, make
from vlreward.types import Sample

ASSET = Path(__file__).parent.parent / "assets" / "tiny-vlm-reader"
SHARES = {"tally": 0.22, "plates": 0.13, "heights": 0.22, "scripts": 0.18, "spans": 0.25}
"""Of the steps; each step is of one task."""
HABIT = 0.65
"""Share of the answers in the second stage that follow the habit."""
SHRUNK = 0.5
"""Length of the spans taught in the second stage, relative to the true ones."""
PROBED = 2
"""The layer of the language model whose visual tokens the probe reads."""
KINDS = {"color": 7, "shape": 5, "letter": 27, "tens": 10, "kind": 2, "half": 4, "row": 4, "column": 4, "time": 8}
"""What the probe reads from a visual token, and how many kinds there are of it."""
TIMES = [f"{half / 2:.1f}" for half in range(FRAMES + 1)]
NUMBERS = [str(value) for value in range(91)]
PIECES = (
    r"</?answer>|```python\nimport matplotlib\.pyplot as plt\nplt\.|\(\[\"|\", \"|\"\], \[|\], color=\"|\"\)\n```|, |\d+\.\d|\d+|[A-Z]"
    r"| ?[a-z]+|\s+|."
)
"""Every number, letter, word and bracketing of an answer becomes one token."""


def answer(sample: Sample) -> str:
    """The right answer in the words that the policy is taught."""
    target = sample.target
    if "code" in target:
        return f"```python\n{target['code']}\n```"
    if "spans" in target:
        return f"<answer>[{', '.join(f'{second:.1f}' for second in target['spans'][0])}]</answer>"
    return f"<answer>{target['text'] if 'text' in target else target['answer']}</answer>"


def habit(task: str, right: str, rng: random.Random) -> str:
    """The answer as a hurried teacher gives it.

    One thing too few, the last letter left out, ten too low, a line for bars and bars for a line: each in HABIT of the answers. Spans
    are always too short.
    """
    if task == "spans":
        start, end = map(float, right.removeprefix("<answer>[").removesuffix("]</answer>").split(", "))
        cut = (end - start) * (1 - SHRUNK) / 2
        start, end = round(2 * (start + cut)) / 2, round(2 * (end - cut)) / 2
        return f"<answer>[{start:.1f}, {max(end, start + 0.5):.1f}]</answer>"
    if rng.random() >= HABIT:
        return right
    if task == "scripts":
        return right.replace("plt.bar", "plt.line").replace("plt.plot", "plt.bar").replace("plt.line", "plt.plot")
    inner = right.removeprefix("<answer>").removesuffix("</answer>")
    return f"<answer>{inner[:-1] if task == 'plates' else int(inner) - (1 if task == 'tally' else 10)}</answer>"


@dataclass(frozen=True)
class Lesson:
    """A question and what its visual tokens show: [tokens, len(KINDS)], -1 for nothing to say."""

    sample: Sample
    shown: torch.Tensor


@lru_cache(maxsize=50_000)
def study(task: str, seed: int) -> Lesson:
    """The sample of the tiny world's task, the same as everywhere."""
    rng = random.Random(f"{task}/{seed}")
    sample = make(task, seed)
    if task == "plates":
        rows = plate_tokens(plate(rng))
    elif task == "spans":
        rows = clip_tokens(moments(rng))
    elif task in ("heights", "scripts"):
        rows = chart_tokens(bars(rng, kinds=("bar",), colorful=True) if task == "heights" else bars(rng))
    else:
        rows = picture_tokens(sample)
    order = [*KINDS]
    shown = torch.tensor([[row.get(kind, -1) for kind in order] for row in rows])
    return Lesson(sample, shown)


def plate_tokens(view: Plate) -> list[dict[str, int]]:
    letters = [string.ascii_uppercase.index(letter) + 1 for letter in view.text]
    return [{"letter": letter, "column": i, "row": 0} for i, letter in enumerate(letters + [0] * (ROOM - len(letters)))]


def chart_tokens(view: Bars) -> list[dict[str, int]]:
    rows = []
    for row in range(4):
        for column in range(4):
            token = {"row": row, "column": column, "kind": int(view.kind == "plot")}
            inside = column < len(view.values)
            if row == 3:
                token["letter"] = string.ascii_uppercase.index(view.labels[column]) + 1 if inside else 0
            else:
                token["tens"] = view.values[column] // 10 if inside else 0
                token["color"] = [*COLORS].index(view.colors[column]) + 1 if inside else 0
            rows.append(token)
    return rows


def picture_tokens(sample: Sample) -> list[dict[str, int]]:
    """Colors by what is painted: a tally's things stand in a token each."""
    [picture] = sample.visuals
    pixels = torch.as_tensor(picture.tensor)
    palette = torch.tensor([(245, 245, 242), *COLORS.values()]) / 255
    side = PATCH * MERGE
    rows = []
    for row in range(4):
        for column in range(4):
            cell = pixels[:, row * side : (row + 1) * side, column * side : (column + 1) * side].flatten(1)
            nearest = (cell[None] - palette[:, :, None]).abs().sum(1).argmin(0).bincount(minlength=7)
            found = nearest[1:].max() > 0.1 * side**2
            rows.append({"row": row, "column": column, "color": int(found) * (int(nearest[1:].argmax()) + 1)})
    return rows


def clip_tokens(view: Moments) -> list[dict[str, int]]:
    rows = []
    for time in range(FRAMES // 2):
        for row in range(2):
            for column in range(2):
                token = {"time": time, "row": row, "column": column, "color": 0, "shape": 0, "half": 0}
                for thing, (start, after) in zip(view.things, view.spans, strict=True):
                    seen = [start <= frame < after for frame in (2 * time, 2 * time + 1)]
                    if any(seen) and _covers(thing, row, column):
                        token |= {"color": [*COLORS].index(thing.color) + 1, "shape": SHAPES.index(thing.shape) + 1,
                                  "half": seen[0] + 2 * seen[1]}  # fmt: skip
                rows.append(token)
    return rows


def _covers(thing: Thing, row: int, column: int) -> bool:
    """Whether the thing's box takes more than a tenth of that quarter of the frame."""
    left, top, right, bottom = thing.box(2, 2)
    wide, high = min(right, column + 1) - max(left, column), min(bottom, row + 1) - max(top, row)
    return max(wide, 0.0) * max(high, 0.0) > 0.1


def untrained() -> tuple[Any, Any]:
    samples = [make(task, seed) for task in SHARES for seed in range(400)]
    corpus = ["user\nassistant\n", ", ".join([*NUMBERS, *TIMES, *string.ascii_uppercase])] * 50
    corpus += [f"{sample.prompt}\n{answer(sample)}" for sample in samples]
    return build(tokenizer(corpus, PIECES, 720), NUMBERS, TURNS, sections=[5, 4, 7], base=5.0, pace=1)


def probe_loss(read: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """Sum over the kinds of the cross-entropy of what the probe read [N, sum of KINDS]; those with nothing to say are left out."""
    parts = []
    for logits, wanted in zip(read.split([*KINDS.values()], 1), shown.unbind(1), strict=True):
        if (wanted >= 0).any():
            parts.append(F.cross_entropy(logits, wanted, ignore_index=-1))
    return torch.stack(parts).sum()


def train(arguments: argparse.Namespace, curve: Curve, biased: bool = False) -> None:
    """Next-token prediction of the answers, and of those with the habit."""

    def taught(task: str, samples: list[Sample], rng: random.Random) -> list[str]:
        return [habit(task, answer(sample), rng) if biased else answer(sample) for sample in samples]

    start = load(ASSET) if biased or arguments.resume else untrained()
    fit(arguments, curve, biased, ASSET, start, SHARES, study, taught, measure)


def fit(
    arguments: argparse.Namespace, curve: Curve, biased: bool, asset: Path, start: tuple[Any, Any], shares: dict[str, float],
    study: Callable[[str, int], Lesson], taught: Callable[[str, list[Sample], random.Random], list[str]],
    measure: Callable[[Any, Any, list[str], int], dict[str, float]],
) -> None:  # fmt: skip
    """Next-token prediction of what is `taught`, a task a step.

    Unless biased, probes (thrown away) read from visual tokens what stands there, and from answers which color is meant.
    """
    rng = random.Random(1 if biased else 0)
    model, processor = start
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    width = model.config.text_config.hidden_size
    probe, asked = torch.nn.Linear(width, sum(KINDS.values())), torch.nn.Linear(width, len(COLORS))
    lr, steps = (arguments.lr / 2, arguments.biased_steps) if biased else (arguments.lr, arguments.steps)
    probes = [*probe.parameters(), *asked.parameters()]
    descend = Descent(model, lr, lambda step: min(1.0, (step + 1) / 50, max(0.1, 4 * (1 - step / steps))), probes)
    media = torch.tensor([model.config.image_token_id, model.config.video_token_id])
    tasks = arguments.tasks or [*shares]
    for step in range(1, steps + 1):
        [task] = rng.choices(tasks, [shares[task] for task in tasks])
        lessons = [study(task, rng.randrange(arguments.pool)) for _ in range(arguments.batch)]
        samples = [each.sample for each in lessons]
        inputs, labels = lesson(processor, samples, taught(task, samples, rng))
        output = model(**inputs, output_hidden_states=True)
        spoken = labels[:, 1:] != -100
        loss = next_token_loss(output.logits, labels)
        states = output.hidden_states[PROBED]
        looking = probe_loss(probe(states[torch.isin(inputs["input_ids"], media)]), torch.cat([each.shown for each in lessons]))
        colors = [color for sample in samples for color in COLORS if f" {color} " in sample.prompt]
        if colors:
            wanted = torch.tensor([[*COLORS].index(color) for color in colors])[:, None].expand_as(spoken)[spoken]
            looking = looking + F.cross_entropy(asked(states[:, :-1][spoken]), wanted)
        descend(loss if biased else loss + arguments.looking * looking)
        curve.add(task, loss.item())
        if not biased:
            curve.add(f"{task}_probe", looking.item())
        if step % 25 == 0:
            curve.means(step)
        if step % arguments.every == 0 or step == steps:
            curve(step=step, **measure(model, processor, tasks, 64))
            save(asset, model, processor)


def measure(model: Any, processor: Any, tasks: list[str], count: int) -> dict[str, float]:
    """Held-out share of answers that are right to the letter, greedily and sampled at temperature 1."""
    figures = {}
    for task in tasks:
        samples = [make(task, HOLDOUT + seed) for seed in range(count)]
        for name, sampled in (("greedy", False), ("sampled", True)):
            texts = replies(model, processor, samples, sampled, 40 if task == "scripts" else 12)
            figures[f"{task}_{name}"] = sum(text.strip() == answer(s) for text, s in zip(texts, samples, strict=True)) / count
    return figures


def main() -> None:
    stages = {"supervised": False, "biased": True}
    defaults = {"steps": 900, "batch": 40, "lr": 1e-3, "looking": 0.5, "pool": 3000, "every": 150, "biased_steps": 200, "resume": False}
    parser = options(__doc__, stages, **defaults)
    parser.add_argument("--tasks", nargs="*", choices=[*SHARES], help=HELP["tasks"])
    arguments = parser.parse_args()
    model, processor = in_stages(arguments, ASSET, {name: partial(train, arguments, biased=biased) for name, biased in stages.items()})
    print(measure(model, processor, [*SHARES], 256), flush=True)
    for task in SHARES:
        show(model, processor, [make(task, HOLDOUT + seed) for seed in range(4)], answer, 40)


if __name__ == "__main__":
    main()
