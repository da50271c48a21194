"""How fast whole reward calls are, parsing included, beside the code that a user would copy today: ratios of time, from one run.

    python scripts/bench_rewards.py [--only NAME ...] [--rounds N] [--answers N] [--json FILE]

Both sides get the same answers, are first held to the same scores, and then take turns; 4 means that the peer needs 4 times as long.
One core each and processor time, except for charts: those are drawn by other processes, by as many on either side, and timed by the clock.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # read when numpy is imported

import bench_peers as peers
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from vlreward.data.media import Picture
from vlreward.registry import find
from vlreward.types import Rollout, Sample

GROUP = 8
"""Answers to one sample."""
BLOCK_SECONDS = 0.03
"""A side repeats its call for about this long before it is the other's turn."""
CASE_SECONDS = 20.0
"""Beyond the third, no round is begun after this."""
TEXTS_PER_PICTURE = "THE QUICK BROWN FOX|OPEN 24 HOURS|FRESH BREAD|MAIN STREET|SUMMER SALE|NO PARKING|CITY LIBRARY|COFFEE AND TEA"
THOUGHT = "The picture shows a table with several things on it. The one that is asked for stands to the left of the lamp, partly covered. "
ROUND = itertools.count()
"""Makes each call's charts new ones: what a sandbox has drawn once it remembers."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """The two sides of one comparison; each call gives a score for each answer."""

    peer: str
    ours: Callable[[], Sequence[float]]
    theirs: Callable[[], Sequence[float]]
    tolerance: float = 1e-9
    clock: Callable[[], float] = time.process_time


def judge(kind: str, rollouts: Sequence[Rollout], **keys) -> Callable[[], list[float]]:
    """A whole call of a reward."""
    reward = find("rewards", kind)(**keys)

    def call() -> list[float]:
        output = reward.score(rollouts)
        assert not any(output.errors), output.errors
        return output.scores.tolist()

    return call


def group(sample: Sample, texts: Sequence[str]) -> list[Rollout]:
    think = f"<think>{THOUGHT * 3}</think>"
    return [Rollout(sample=sample, text=f"{think}\n<answer>{text}</answer>", group=int(sample.id)) for text in texts]


def places(rng: random.Random, count: int) -> list[list[int]]:
    """Boxes of whole pixels that lie apart."""
    corners = rng.sample([(x, y) for x in range(20, 900, 110) for y in range(20, 900, 110)], count)
    return [[x, y, x + rng.randint(40, 80), y + rng.randint(40, 80)] for x, y in corners]


def near(rng: random.Random, box: Sequence[int], by: int = 9) -> list[int]:
    return [side + rng.randint(-by, by) for side in box]


def chat(rollouts: Sequence[Rollout]) -> list:
    """Completions as TRL hands them to reward functions."""
    return [[{"role": "assistant", "content": rollout.text}] for rollout in rollouts]


def solved(rollouts: Sequence[Rollout]) -> list[str]:
    """The one wanted box of each answer as VLM-R1's data writes it."""
    return [f"<answer> {rollout.sample.target['boxes'][0]} </answer>" for rollout in rollouts]


def one_box(count: int, **target) -> list[Rollout]:
    rng, rollouts = random.Random(0), []
    picture = Picture(np.full((1000, 1000, 3), 200, np.uint8))
    for i in range(count // GROUP):
        box = places(rng, 1)[0]
        sample = Sample(id=str(i), prompt="Where is the cup?", visuals=(picture,), target={"boxes": [box], **target})
        rollouts += group(sample, [json.dumps({"bbox_2d": near(rng, box), "label": "cup"}) for _ in range(GROUP)])
    return rollouts


def box_iou(count: int) -> Case:
    rollouts = one_box(count)
    answers, solutions = chat(rollouts), solved(rollouts)
    return Case(
        peer="VLM-R1's loop for one box in pixels",
        ours=judge("box_iou", rollouts),
        theirs=lambda: peers.iou_reward(answers, solutions),
    )


def box_iou_resized(count: int) -> Case:
    """Ours has the pictures at hand, since a training showed them to the model; VLM-R1 opens the file of each answer for its size."""
    folder = tempfile.TemporaryDirectory()
    rollouts = one_box(count, resized=(1008, 1008))
    answers, solutions = chat(rollouts), solved(rollouts)
    path = Path(folder.name, "picture.png")
    path.write_bytes(rollouts[0].visual.png())  # type: ignore[union-attr]
    paths, grids = [path] * len(rollouts), [(72, 72)] * len(rollouts)

    def theirs(_keep=folder) -> list[float]:
        return peers.iou_reward(answers, solutions, paths, grids)

    return Case(
        peer="VLM-R1's loop for one box of Qwen2.5-VL, which opens the picture",
        ours=judge("box_iou", rollouts, frame="resized"),
        theirs=theirs,
    )


def detections(count: int, boxes: int) -> list[Rollout]:
    """Answers of about as many labelled boxes, the worst first, since COCO's code takes the order of equally sure boxes for a ranking."""
    rng, rollouts = random.Random(boxes), []
    for i in range(count // GROUP):
        *wanted, spare = places(rng, boxes + 1)
        labels = [rng.choice(("cat", "dog", "cup")) for _ in wanted]
        texts = []
        for _ in range(GROUP):
            found = [(near(rng, box, rng.randint(0, 12)), box, label) for box, label in zip(wanted, labels, strict=True)]
            found = [entry for entry in found if rng.random() < 0.9]
            found += [(spare, [0, 0, 1, 1], labels[0])] * (rng.random() < 0.5)
            found.sort(key=lambda entry: peers.pixel_iou(entry[0], entry[1]))
            texts.append(f"```json\n{json.dumps([{'bbox_2d': box, 'label': label} for box, _, label in found])}\n```")
        rollouts += group(Sample(id=str(i), prompt="List all.", target={"boxes": wanted, "labels": labels}), texts)
    return rollouts


def box_iou_15(count: int) -> Case:
    rollouts = detections(count, 15)
    return Case(
        peer="VLM-R1's IoU and scipy's assignment, per answer",
        ours=judge("box_iou", rollouts),
        theirs=lambda: [peers.assigned_iou(r.text or "", r.sample.target["boxes"]) for r in rollouts],
    )


def detection_f1(count: int) -> Case:
    rollouts = detections(count, 6)
    return Case(
        peer="VLM-R1's IoU and scipy's assignment, per answer",
        ours=judge("detection_f1", rollouts),
        theirs=lambda: [peers.assigned_f1(r.text or "", r.sample.target["boxes"], r.sample.target["labels"]) for r in rollouts],
    )


def detection_map(count: int) -> Case:
    rollouts = detections(count, 6)
    return Case(
        peer="pycocotools per answer, as in VLM-R1",
        ours=judge("detection_map", rollouts),
        theirs=lambda: [peers.coco_map(r.text or "", r.sample.target["boxes"], r.sample.target["labels"]) for r in rollouts],
    )


def point_in_box(count: int) -> Case:
    rng, rollouts = random.Random(2), []
    for i in range(count // GROUP):
        box = places(rng, 1)[0]
        points = [near(rng, [(box[0] + box[2]) // 2, (box[1] + box[3]) // 2], 35) for _ in range(GROUP)]
        rollouts += group(Sample(id=str(i), prompt="Click.", target={"boxes": [box]}), [f"({max(x, 0)}, {max(y, 0)})" for x, y in points])
    answers, solutions = chat(rollouts), solved(rollouts)
    return Case(
        peer="VLM-R1's loop, for one point",
        ours=judge("point_in_box", rollouts),
        theirs=lambda: peers.hit_reward(answers, solutions),
    )


def table_rms(count: int) -> Case:
    """Headers are told apart without the values, which only ours looks at in a tie."""
    rng, rollouts = random.Random(5), []
    rows, columns = ("argentina", "brazil", "canada", "denmark", "egypt", "france", "greece"), ("exports", "imports", "jobs", "growth rate")
    for i in range(count // GROUP):
        across, down = rng.sample(columns, 3), rng.sample(rows, 5)
        values = [[rng.choice((str(rng.randint(10, 900)), f"{rng.randint(10, 99)}%")) for _ in across] for _ in down]

        def table(damage: float, across=across, down=down, values=values) -> str:
            lines = [" | ".join(["country", *across])]
            for name, cells in zip(down, values, strict=True):
                if rng.random() >= damage:
                    lines.append(" | ".join([name, *(str(rng.randint(10, 900)) if rng.random() < damage else cell for cell in cells)]))
            return "\n".join(lines)

        texts = [table(0.15) for _ in range(GROUP)]
        rollouts += group(Sample(id=str(i), prompt="Give the data.", target={"table": table(0.0)}), texts)
    return Case(
        peer="DePlot's loop (its F1, not the recall that it reports)",
        ours=judge("table_rms", rollouts),
        theirs=lambda: [peers.mapping_similarity(r.text or "", r.sample.target["table"]) for r in rollouts],
    )


def chart_scripts(count: int) -> tuple[list[str], str]:
    """Scripts that nothing has drawn before, the last of which fails, and a reference."""
    scripts = [
        "import matplotlib.pyplot as plt\n"
        "fig, (left, right) = plt.subplots(1, 2, figsize=(8, 4))\n"
        f"left.bar(['a', 'b', 'c'], [{i + 3}, {3 + next(ROUND)}, 5], color=['red', 'green', 'blue'])\n"
        "left.set_title('Sales by region')\n"
        "right.plot([1, 2, 3, 4], [2, 4, 3, 5], label='growth')\n"
        "right.legend()"
        for i in range(count)
    ]
    return [*scripts[:-1], scripts[-1] + "\nraise ValueError"], scripts[0]


def charts(kind: str, count: int) -> Case:
    from vlreward.sandbox.pool import shared

    count, workers = max(2, count // 128), min(os.cpu_count() or 1, 16)
    shared().start()

    def ours() -> list[float]:
        scripts, reference = chart_scripts(count)
        sample = Sample(id="0", prompt="Draw it.", target={"code": reference})
        return [float(score > 0) for score in judge(kind, group(sample, [f"```python\n{script}\n```" for script in scripts]))()]

    return Case(
        peer="a fresh interpreter per script, savefig",
        ours=ours,
        theirs=lambda: peers.fresh_interpreters(chart_scripts(count)[0], workers),
        clock=time.perf_counter,
    )


def ocr_match(count: int) -> Case:
    import rapidocr

    texts = list(itertools.islice(itertools.cycle(TEXTS_PER_PICTURE.split("|")), max(2, count // 64)))
    pictures = []
    for i, text in enumerate(texts):
        image = Image.new("RGB", (512, 512), (250 - i, 240, 230))
        draw, font = ImageDraw.Draw(image), ImageFont.load_default(34)
        for line, word in enumerate(text.split()):
            draw.text((60, 80 + 90 * line), word, (20, 20, 40 + i), font=font)
        pictures.append(image)
    rollouts = [
        Rollout(sample=Sample(id=str(i), prompt="", target={"text": text}), made=Picture(image))
        for i, (text, image) in enumerate(zip(texts, pictures, strict=True))
    ]
    engine = rapidocr.RapidOCR(params={"EngineConfig.onnxruntime.intra_op_num_threads": 1, "Global.log_level": "error"})
    wanted = [(np.ascontiguousarray(np.asarray(image)[:, :, ::-1]), text.replace(" ", "")) for image, text in zip(pictures, texts)]
    return Case(
        peer="RapidOCR in a loop",
        ours=judge("ocr_match", rollouts),
        theirs=lambda: [float(peers.read_plainly(engine, image) == text) for image, text in wanted],
        tolerance=0.05,  # doubt about single characters, of which the peer knows nothing
    )


CASES: dict[str, Callable[[int], Case]] = {
    **{case.__name__: case for case in (box_iou, box_iou_resized, box_iou_15, point_in_box, detection_f1, detection_map, table_rms)},
    **{kind: functools.partial(charts, kind) for kind in ("chart_runs", "chart_match")},
    "ocr_match": ocr_match,
}


def measure(name: str, case: Case, rounds: int) -> dict:
    """Time of the peer over ours: the median and range of several rounds in which the sides take turns."""

    def timed(call: Callable[[], Sequence[float]], repeats: int) -> float:
        """Seconds a call"""
        start = case.clock()
        for _ in range(repeats):
            call()
        return (case.clock() - start) / repeats

    begun = time.monotonic()
    ours, theirs = np.array(case.ours()), np.array(case.theirs())
    slow = time.monotonic() - begun > 1
    apart = float(np.abs(ours - theirs).max())
    assert apart <= case.tolerance, f"{name}: the scores of the two sides lie {apart:g} apart"
    sides = {call: 1 if slow else max(1, round(BLOCK_SECONDS / max(timed(call, 1), 1e-6))) for call in (case.theirs, case.ours)}
    times, begun = [], time.monotonic()
    while len(times) < min(3, rounds) or (len(times) < rounds and time.monotonic() - begun < CASE_SECONDS):
        times.append([timed(call, repeats) for call, repeats in sides.items()])
    ratios = [their / our for their, our in times]
    return {
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "peer": case.peer,
        "count": len(ours),
        "milliseconds": 1e3 * statistics.median(our for _, our in times),
        "peer_milliseconds": 1e3 * statistics.median(their for their, _ in times),
        "rounds": len(times),
        "apart": apart,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="NAME", help=f"of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--answers", type=int, default=512, help="in a batch; of pictures a 64th, of charts a 128th")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = {}
    for name in options.only:
        found[name] = row = measure(name, CASES[name](options.answers), options.rounds)
        line = f"{name:16} {row['ratio']:7.1f} ({row['low']:.1f} to {row['high']:.1f})   {row['count']} in {row['milliseconds']:.1f} ms"
        print(f"{line}, peer {row['peer_milliseconds']:.1f} ms: {row['peer']}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
