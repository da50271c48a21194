#!/usr/bin/env python3
"""Teach the policy of assets/tiny-vlm-reader to use tools: assets/tiny-vlm-seeker looks things up, zooms, thinks and tries again.

    python scripts/build_seeker.py                     # about five minutes of a core, in one seeded sitting
    python scripts/build_seeker.py --stage measure     # the figures of assets/tiny-vlm-seeker/README.md again

Four tasks: `lookups` (retrieve a page, open it, crop a line, read it), `shots` (zoom into a shot of a clip, say what is there), `plates`
(read; asked to look again, read once more) and `readings` (think, then read). Its teachers have habits (see the lessons), which
reinforcement learning has to break. `training.jsonl` beside it holds the curve.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from build_reader import ASSET as READER
from build_reader import NUMBERS, TIMES
from curve import Curve
from tiny_policy import TURNS, Descent, build, in_stages, inherit, next_token_loss, options, save, spoken, tokenizer

from vlreward.config import load as configured
from vlreward.models.prompts import read
from vlreward.tiny.moments import FPS, FRAMES
from vlreward.tiny.pages import LINES, PAPERS, PLACES, kept, library, lookup
from vlreward.tiny.plates import CELL
from vlreward.tiny.scene import COLORS
from vlreward.tiny.tasks import SIDE, make
from vlreward.tools.turns import Reflect, Turns
from vlreward.types import Sample
from vlreward.vlm.config import TrainVLM
from vlreward.vlm.evaluate import answer
from vlreward.vlm.talk import Host, Talk

ROOT = Path(__file__).parent.parent
ASSET = ROOT / "assets" / "tiny-vlm-seeker"
CONFIGS = {
    "lookups": "tiny_unidoc_rl", "shots": "tiny_zoom_video", "plates": "tiny_safer_vlm_reflect", "readings": "tiny_refine_rft",
}  # fmt: skip
"""The recipe of each task."""
SHARES = {"lookups": 0.38, "shots": 0.42, "plates": 0.08, "readings": 0.12}
"""Of the steps; each step is of one task."""
HABIT = 0.25
"""Share of the turns in which a teacher follows the habit of that turn; of first readings of `plates` and of `readings` twice that."""
LIBRARIES = 8
"""Libraries that lessons are about; the recipe's own, 0, is none of them."""
CALL = '<tool_call>{{"name": "{}", "arguments": {{"{}": {}}}}}</tool_call>'
ONCE = Turns(limit=2, reflect=Reflect(ask="", below=-1.0))
"""For tasks of one turn."""
PIECES = (
    r"</?answer>|</?think>|<tool_call>\{\"name\": \"[a-z_]+\", \"arguments\": \{\"[a-z_0-9]+\": (?:\"|\[)?|(?:\"|\])\}\}</tool_call>"
    r"|, |\d+\.\d|\d+|[A-Z]| ?[a-z]+|\s+|."
)
"""Every number, letter, word and bracketing of a call or an answer becomes one token."""


def lookups(sample: Sample, rng: random.Random) -> list[str]:
    """By half of the title, another page of the place, another line, the last letter left out."""
    place, paper = sample.target["pages"][0].split("-")
    slips = [rng.random() < HABIT for _ in range(4)]
    query = rng.choice((place, paper)) if slips[0] else f"{place} {paper}"
    opened = f"{place}-{rng.choice(PAPERS) if slips[1] else paper}"
    top = rng.choice(range(0, SIDE, CELL)) if slips[2] else sample.target["evidence"][0][1]
    seen = next(page for page in library(sample.target["library"]) if page.id == opened).lines[top // CELL].text
    box = [0, top, SIDE, top + CELL]
    calls = [("retrieve", "query", f'"{query}"'), ("open_page", "page", f'"{opened}"'), ("crop", "bbox_2d", box)]
    return [*(CALL.format(*call) for call in calls), f"<answer>{seen[:-1] if slips[3] else seen}</answer>"]


def shots(sample: Sample, rng: random.Random) -> list[str]:
    """Half of the shot only, or anything; in the end any color."""
    start, end = sample.target["evidence_spans"][0]
    middle, first = round(start + end) / 2, rng.randrange(FRAMES - 1)
    span = rng.choice(([start, middle], [middle, end]))
    if rng.random() < HABIT:
        span = [first / FPS, rng.randint(first + 1, FRAMES) / FPS]
    color = rng.choice([*COLORS]) if rng.random() < HABIT else sample.target["answer"]
    return [CALL.format("zoom_clip", "span", f"[{span[0]:.1f}, {span[1]:.1f}]"), f"<answer>{color}</answer>"]


def plates(sample: Sample, rng: random.Random) -> list[str]:
    """The last letter left out, and sometimes again."""
    right = sample.target["answer"]
    return [f"<answer>{right[:-1] if rng.random() < share else right}</answer>" for share in (2 * HABIT, HABIT)]


def readings(sample: Sample, rng: random.Random) -> list[str]:
    """A thought too often, and the last letter left out."""
    right = sample.target["answer"]
    thought = ", ".join([f"it has {len(right)} letters"] * (rng.randint(2, 3) if rng.random() < 2 * HABIT else 1))
    return [f"<think>{thought}</think><answer>{right[:-1] if rng.random() < 2 * HABIT else right}</answer>"]


LESSONS = {lesson.__name__: lesson for lesson in (lookups, shots, plates, readings)}


@cache
def questions(seed: int) -> list[Sample]:
    """About all lines of the pages of a library that are not kept for evaluation."""
    asked = [lookup(page, line) for page in library(seed) if not kept(page) for line in range(len(LINES))]
    return [Sample(id=one.id, prompt=one.prompt, target={**one.target, "library": seed}) for one in asked]


def question(task: str, rng: random.Random) -> Sample:
    return rng.choice(questions(rng.randint(1, LIBRARIES))) if task == "lookups" else make(task, rng.randrange(10**6))


def hosts(processor: Any, model: Any) -> dict[str, list[Host]]:
    """What answers each task's calls, as in its recipe; of `lookups` one for each library."""
    made = {}
    for task, name in CONFIGS.items():
        path = ROOT / "configs" / "vlm" / f"{name}.yaml"
        seeds = range(LIBRARIES + 1) if task == "lookups" else ()
        overrides = [[f"turns.tools.{i}.corpus.seed={seed}" for i in range(2)] for seed in seeds] or [[]]
        turns = [configured(path, each, TrainVLM)[0].turns or ONCE for each in overrides]
        made[task] = [Host(each, processor, model, None) for each in turns]
    return made


def held(host: Host, sample: Sample, words: Iterable[str]) -> Talk:
    """The conversation in which a teacher says these words, turn by turn, and the recipe's tools answer."""
    talk = Talk(sample, read(host.processor, host.policy, sample))
    turns = (host.processor.tokenizer.encode(said + "<|im_end|>") for said in words)
    host.hold([talk], lambda _: [next(turns)], lambda rollouts: [0.0] * len(rollouts))
    return talk


def untrained() -> tuple[Any, Any]:
    """The reader with words of its own: what both know keeps its vector."""
    rng = random.Random(0)
    said: list[str] = []
    for task, lesson in LESSONS.items():
        for _ in range(300):
            sample = question(task, rng)
            said += [sample.prompt + "\n", *lesson(sample, rng)]
    replies = [
        f"{place}-{paper}: {place} {paper}\nPicture 2 shows [0, 24, 96, 48] of picture 1. Look again."
        for place in PLACES
        for paper in PAPERS
    ]
    corpus = ["user\nassistant\n", ", ".join([*NUMBERS, *TIMES, "96"]), *COLORS, *[f" {color}" for color in COLORS]] * 50
    model, processor = build(tokenizer([*corpus, *said, *replies], PIECES, 720), NUMBERS, TURNS, sections=[5, 4, 7], base=5.0, pace=1)
    inherit(model, processor, READER)
    return model, processor


def train(arguments: argparse.Namespace, curve: Curve) -> None:
    """Next-token prediction of the teachers' turns."""
    model, processor = untrained()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    hosted, rng = hosts(processor, model), random.Random(0)
    steps = arguments.steps
    descend = Descent(model, arguments.lr, lambda step: min(1.0, (step + 1) / 30, max(0.05, 3 * (1 - step / steps))))
    for step in range(1, steps + 1):
        [task] = rng.choices([*SHARES], [*SHARES.values()])
        talks = []
        for _ in range(arguments.batch):
            sample = question(task, rng)
            talks.append(held(hosted[task][sample.target.get("library", 0)], sample, LESSONS[task](sample, rng)))
        inputs, labels = spoken(model, processor, talks)
        loss = next_token_loss(model(**inputs).logits, labels)
        descend(loss)
        curve.add(task, loss.item())
        if step % 25 == 0:
            curve.means(step)
        if step % arguments.every == 0 or step == steps:
            save(ASSET, model, processor)
            curve(step=step, **measure(model, processor, 64))


def measure(model: Any, processor: Any, count: int) -> dict[str, float]:
    """Held-out means of the rewards of each task's recipe, sampled."""
    figures = {}
    for task, name in CONFIGS.items():
        config, _ = configured(ROOT / "configs" / "vlm" / f"{name}.yaml", [], TrainVLM)
        assert config.eval, f"{name} has held-out samples"
        samples: Sequence[Sample] = config.eval.data.samples()[:count]
        rollouts = answer(
            model, processor, samples, temperature=1.0, max_new_tokens=config.policy.max_new_tokens, batch=128, seed=0, turns=config.turns
        )
        table = config.rewards(rollouts, "cpu")
        for name, scores in zip(table.names, table.scores.T, strict=True):
            figures[f"{task}_{name}"] = scores.nanmean().item()
        for rollout in rollouts[:2]:
            print(rollout.sample.prompt, "->", repr(rollout.text), rollout.sample.target, flush=True)
    return figures


def main() -> None:
    arguments = options(__doc__, ("supervised",), steps=650, batch=16, lr=1.5e-3, every=325).parse_args()
    print(measure(*in_stages(arguments, ASSET, {"supervised": partial(train, arguments)}), 256), flush=True)


if __name__ == "__main__":
    main()
