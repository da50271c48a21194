#!/usr/bin/env python3
"""Train the tiny Qwen2.5-VL-shaped policy of assets/tiny-vlm from nothing, on questions about the tiny world.

    python scripts/build_vlm.py                      # both stages, about half an hour on a core
    python scripts/build_vlm.py --stage tight     # the second one again
    python scripts/build_vlm.py --stage measure      # the figures of assets/tiny-vlm/README.md again

The result is an ordinary Qwen2.5-VL folder with a tokenizer of its own, read by AutoProcessor and AutoModelForImageTextToText.
`training.jsonl` beside it holds the curve. Supervision has two stages: true answers, until the IoU of sampled held-out boxes reaches
`--stop`; then boxes drawn too tight, as hurried annotators draw them. So the policy finds objects but has learned its teachers' bias,
which is what reinforcement learning has to win back.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from curve import Curve
from tiny_policy import MERGE, PATCH, TURNS, Descent, build, lesson, load, replies, save, tokenizer

from vlreward.data.media import Picture
from vlreward.tiny.scene import COLORS, SHAPES, Scene, crowd, scene
from vlreward.tiny.tasks import HOLDOUT, SIDE, make
from vlreward.types import Sample

ASSET = Path(__file__).parent.parent / "assets" / "tiny-vlm"
SHARES = {"grounding": 0.5, "alone": 0.24, "color": 0.1, "counting": 0.08, "relation": 0.08}
"""Of the supervised rows. 'alone' is grounding of the only object in the picture, without which training long ignores the picture."""
PROBED = 2
"""The layer of the language model whose visual tokens the probe reads."""
TIGHT = 0.7
"""Side of the boxes taught in the second stage, relative to the true ones."""
SPREAD = 1.5
"""Pixels: deviation of a number's label over its neighbours."""
SYSTEM = "Reply in <answer></answer>, a box as [x1, y1, x2, y2] in pixels."
TEMPLATE = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n" + SYSTEM + "<|im_end|>\n{% endif %}" + TURNS
NUMBERS = [str(value) for value in range(SIDE + 1)]
PIECES = r"<answer>\[?|\]?</answer>|, |\d+| ?[A-Za-z]+\d?|\s+|."
"""Every number, word and bracketing of an answer becomes one token."""
BOX = re.compile(r"<answer>\[(\d+), (\d+), (\d+), (\d+)\]</answer>")


def question(task: str, seed: int) -> tuple[Sample, Scene]:
    """A training sample and the scene behind it; the samples of the tiny world's tasks are the same as everywhere."""
    rng = random.Random(f"{task}/{seed}")
    if task == "alone":
        view = crowd(rng, 1)
        target = {"boxes": view.boxes(SIDE), "size": [SIDE, SIDE]}
        return Sample(id="", prompt=f"Where is the {view.things[0].label}?", visuals=(Picture(view.picture(SIDE)),), target=target), view
    draw = {"grounding": lambda: crowd(rng, rng.randint(2, 3)), "counting": lambda: crowd(rng, rng.randint(1, 4)),
            "color": lambda: scene(rng, max_things=1), "relation": lambda: crowd(rng, 2)}  # fmt: skip
    return make(task, seed), draw[task]()


def answer(sample: Sample) -> str:
    """The right answer in the words that the policy is taught."""
    if "boxes" in sample.target:
        return f"<answer>[{', '.join(str(round(value)) for value in sample.target['boxes'][0])}]</answer>"
    return f"<answer>{sample.target['answer']}</answer>"


def untrained(samples: Sequence[Sample]) -> tuple[Any, Any]:
    """Model and processor whose words are those of the samples."""
    corpus = ["system\nuser\nassistant\n", SYSTEM, ", ".join(NUMBERS)] * 50 + [f"{sample.prompt}\n{answer(sample)}" for sample in samples]
    return build(tokenizer(corpus, PIECES, 640), NUMBERS, TEMPLATE, sections=[2, 5, 9], base=30.0)


def train(arguments: argparse.Namespace, curve: Curve, tight: bool = False) -> None:
    """Next-token prediction of the answers, and a probe (thrown away) that reads from visual tokens what stands there.

    Without the probe, 600 steps of 64 did not lift the IoU above that of a blind guess. `tight` is the second stage, which goes on
    from the saved model, needs no probe, and runs for `--tight-steps` at half the learning rate.
    """
    rng = random.Random(0)
    tasks = rng.choices(list(SHARES), list(SHARES.values()), k=arguments.pool)
    start = time.time()
    pool, views = zip(*(question(task, seed) for seed, task in enumerate(tasks)), strict=True)
    seen = torch.stack([what_tokens_show(view) for view in views])
    model, processor = load(ASSET) if tight else untrained(pool)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters; {len(pool)} samples in {time.time() - start:.0f} s", flush=True)
    taught = [too_tight(sample) for sample in pool] if tight else pool
    texts = [answer(sample) for sample in taught]
    probe = torch.nn.Linear(model.config.text_config.hidden_size, 5 + len(COLORS) + len(SHAPES))
    numbers = torch.tensor([processor.tokenizer.convert_tokens_to_ids(number) for number in NUMBERS])
    lr, steps = (arguments.lr / 2, arguments.tight_steps) if tight else (arguments.lr, arguments.steps)
    descend = Descent(model, lr, lambda step: min(1.0, (step + 1) / 100), probe.parameters())
    total, aside, count = 0.0, 0.0, 0
    for step in range(1, steps + 1):
        rows = rng.sample(range(len(pool)), arguments.batch)
        inputs, labels = lesson(processor, [pool[i] for i in rows], [texts[i] for i in rows])
        output = model(**inputs, output_hidden_states=True)
        spoken = labels[:, 1:] != -100
        loss = answer_loss(output.logits[:, :-1][spoken], labels[:, 1:][spoken], numbers)
        visual = output.hidden_states[PROBED][inputs["input_ids"] == model.config.image_token_id]
        looking = probe_loss(probe(visual), seen[rows].flatten(0, 1))
        descend(loss if tight else loss + looking)
        total, aside, count = total + loss.item(), aside + looking.item(), count + 1
        if step % 50 == 0:
            curve(step=step, loss=total / count, probe=aside / count)
            total, aside, count = 0.0, 0.0, 0
        if step % arguments.every == 0:
            figures = measure(model, processor, 256)
            curve(step=step, **figures)
            save(ASSET, model, processor)
            if not tight and figures["sampled_iou"] >= arguments.stop:
                return


def too_tight(sample: Sample) -> Sample:
    """The sample with its box shrunk around the middle; the sample itself where it asks for none."""
    if "boxes" not in sample.target:
        return sample
    left, top, right, bottom = sample.target["boxes"][0]
    dx, dy = (right - left) * (1 - TIGHT) / 2, (bottom - top) * (1 - TIGHT) / 2
    return replace(sample, target={**sample.target, "boxes": [[left + dx, top + dy, right - dx, bottom - dy]]})


def what_tokens_show(view: Scene) -> torch.Tensor:
    """[tokens, 7] of the thing that covers most of each visual token: whether there is one, box (relative, xyxy), color, shape."""
    cells = SIDE // (PATCH * MERGE)
    rows = []
    for row in range(cells):
        for column in range(cells):
            cell = [column / cells, row / cells, (column + 1) / cells, (row + 1) / cells]
            covered = [_overlap(thing.box(1, 1), cell) for thing in view.things]
            best = max(range(len(covered)), key=lambda i: covered[i])
            thing = view.things[best]
            found = covered[best] > 0.1 / cells**2
            rows.append([float(found), *thing.box(1, 1), [*COLORS].index(thing.color), SHAPES.index(thing.shape)])
    return torch.tensor(rows)


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def probe_loss(read: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """How wrong the probe's readings [N, 15] are: presence, box, color, shape."""
    there = seen[:, 0] > 0
    presence = F.binary_cross_entropy_with_logits(read[:, 0], seen[:, 0])
    box = F.smooth_l1_loss(read[there, 1:5], seen[there, 1:5], beta=0.05)
    color = F.cross_entropy(read[there, 5 : 5 + len(COLORS)], seen[there, 5].long())
    shape = F.cross_entropy(read[there, 5 + len(COLORS) :], seen[there, 6].long())
    return presence + 10 * box + color + shape


def answer_loss(logits: torch.Tensor, labels: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Cross-entropy; a number's label is spread over its neighbours, so that near misses are less wrong."""
    values = torch.full((logits.shape[-1],), -1)
    values[numbers] = torch.arange(len(numbers))
    value = values[labels]
    wanted = F.one_hot(labels, logits.shape[-1]).float()
    near = torch.softmax(-((torch.arange(len(numbers))[None] - value[:, None]) ** 2) / (2 * SPREAD**2), 1)
    wanted[value >= 0] = torch.zeros_like(wanted[value >= 0]).index_copy(1, numbers, near[value >= 0])
    return F.cross_entropy(logits, wanted)


def iou(text: str, wanted: Sequence[float]) -> float:
    """IoU of the answered box with the wanted one; 0 where the answer is none."""
    found = BOX.fullmatch(text.strip())
    if not found:
        return 0.0
    a = [float(value) for value in found.groups()]
    over = max(min(a[2], wanted[2]) - max(a[0], wanted[0]), 0) * max(min(a[3], wanted[3]) - max(a[1], wanted[1]), 0)
    area = max(a[2] - a[0], 0) * max(a[3] - a[1], 0) + (wanted[2] - wanted[0]) * (wanted[3] - wanted[1])
    return over / (area - over)


def measure(model: Any, processor: Any, count: int) -> dict[str, float]:
    """Held-out figures: mean IoU of grounding, sampled and greedy; shares of right and well-formed answers."""
    figures = {}
    samples = [make("grounding", HOLDOUT + seed) for seed in range(count)]
    for name, sampled in (("sampled", True), ("greedy", False)):
        texts = replies(model, processor, samples, sampled)
        figures[f"{name}_iou"] = sum(iou(t, s.target["boxes"][0]) for t, s in zip(texts, samples, strict=True)) / count
        figures[f"{name}_format"] = sum(bool(BOX.fullmatch(t.strip())) for t in texts) / count
    for task in ("color", "counting", "relation"):
        samples = [make(task, HOLDOUT + seed) for seed in range(count // 2)]
        figures[task] = sum(t.strip() == answer(s) for t, s in zip(replies(model, processor, samples, False), samples, strict=True)) / len(
            samples
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--pool", type=int, default=30_000)
    parser.add_argument("--every", type=int, default=100, help="steps between measurements")
    parser.add_argument("--stop", type=float, default=0.38, help="sampled held-out IoU at which supervision stops")
    parser.add_argument("--tight-steps", type=int, default=400)
    parser.add_argument("--stage", choices=("all", "supervised", "tight", "measure"), default="all")
    arguments = parser.parse_args()
    ASSET.mkdir(parents=True, exist_ok=True)
    for stage in ("supervised", "tight"):
        if arguments.stage in ("all", stage):
            train(arguments, Curve(ASSET / "training.jsonl", stage), tight=stage == "tight")
    model, processor = load(ASSET)
    print(measure(model, processor, 1024), flush=True)
    samples = [make("grounding", HOLDOUT + seed) for seed in range(6)] + [make("counting", HOLDOUT), make("relation", HOLDOUT)]
    for sample, text in zip(samples, replies(model, processor, samples, True), strict=True):
        print(sample.prompt, "->", text, "| right:", answer(sample), flush=True)


if __name__ == "__main__":
    main()
