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
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from build_reader import ASSET as READER
from build_reader import KINDS, PROBED, SHRUNK, TIMES, Lesson, clip_tokens, picture_tokens, probe_loss
from curve import Curve
from tiny_policy import TURNS, build, lesson, load, replies, save, tokenizer

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
    reader, words = load(READER)
    vectors: Any = model.get_input_embeddings()
    known, own = words.tokenizer.get_vocab(), processor.tokenizer.get_vocab()
    kept = {name: value for name, value in reader.state_dict().items() if "embed_tokens" not in name and "lm_head" not in name}
    model.load_state_dict(kept, strict=False)
    shared = [(own[token], known[token]) for token in own if token in known]
    with torch.no_grad():
        places, sources = torch.tensor(shared).T
        vectors.weight[places] = reader.get_input_embeddings().weight[sources]
    return model, processor


def train(arguments: argparse.Namespace, curve: Curve, biased: bool = False) -> None:
    """Next-token prediction of the answers, beside build_reader's probes (thrown away) of what tokens show and which color is meant."""
    rng = random.Random(1 if biased else 0)
    model, processor = load(ASSET) if biased or arguments.resume else untrained()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    lr, steps = (arguments.lr / 2, arguments.biased_steps) if biased else (arguments.lr, arguments.steps)
    width = model.config.text_config.hidden_size
    probe, asked = torch.nn.Linear(width, sum(KINDS.values())), torch.nn.Linear(width, len(COLORS))
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *probe.parameters(), *asked.parameters()], lr=lr, weight_decay=0.01, betas=(0.9, 0.98)
    )
    media = torch.tensor([model.config.image_token_id, model.config.video_token_id])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 50, max(0.1, 4 * (1 - step / steps))))
    tasks = arguments.tasks or [*SHARES]
    losses: dict[str, list[float]] = {}
    for step in range(1, steps + 1):
        [task] = rng.choices(tasks, [SHARES[task] for task in tasks])
        lessons = [study(task, rng.randrange(arguments.pool)) for _ in range(arguments.batch)]
        samples = [each.sample for each in lessons]
        right = [answer(sample, rng) for sample in samples]
        inputs, labels = lesson(processor, samples, [habit(s, r, rng) for s, r in zip(samples, right, strict=True)] if biased else right)
        output = model(**inputs, output_hidden_states=True)
        spoken = labels[:, 1:] != -100
        loss = F.cross_entropy(output.logits[:, :-1][spoken], labels[:, 1:][spoken])
        states = output.hidden_states[PROBED]
        looking = probe_loss(probe(states[torch.isin(inputs["input_ids"], media)]), torch.cat([each.shown for each in lessons]))
        colors = [color for sample in samples for color in COLORS if f" {color} " in sample.prompt]
        if colors:
            wanted = torch.tensor([[*COLORS].index(color) for color in colors])[:, None].expand_as(spoken)[spoken]
            looking = looking + F.cross_entropy(asked(states[:, :-1][spoken]), wanted)
        optimizer.zero_grad()
        (loss if biased else loss + arguments.looking * looking).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.setdefault(task, []).append(loss.item())
        if not biased:
            losses.setdefault(f"{task}_probe", []).append(looking.item())
        if step % 25 == 0:
            curve(step=step, **{name: sum(values) / len(values) for name, values in sorted(losses.items())})
            losses = {}
        if step % arguments.every == 0 or step == steps:
            save(ASSET, model, processor)
    curve(step=steps, **measure(model, processor, tasks, 64))


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--looking", type=float, default=0.5, help="weight of the probes' loss")
    parser.add_argument("--pool", type=int, default=1500, help="samples of each task")
    parser.add_argument("--every", type=int, default=100, help="steps between savings")
    parser.add_argument("--tasks", nargs="*", choices=[*SHARES], help="only these")
    parser.add_argument("--biased-steps", type=int, default=80)
    parser.add_argument("--resume", action="store_true", help="go on from the saved model")
    parser.add_argument("--stage", choices=("all", "supervised", "biased", "measure"), default="all")
    arguments = parser.parse_args()
    ASSET.mkdir(parents=True, exist_ok=True)
    for stage in ("supervised", "biased"):
        if arguments.stage in ("all", stage):
            train(arguments, Curve(ASSET / "training.jsonl", "resumed" if arguments.resume else stage), biased=stage == "biased")
    model, processor = load(ASSET)
    print(measure(model, processor, [*SHARES], 128), flush=True)
    for task in SHARES:
        samples = [make(task, HOLDOUT + seed) for seed in range(3)]
        for sample, text in zip(samples, replies(model, processor, samples, True, LONGEST), strict=True):
            print(sample.prompt, "->", repr(text), "| right:", repr(answer(sample, random.Random(0))), flush=True)


if __name__ == "__main__":
    main()
