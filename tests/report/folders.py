"""Run folders of all three commands as they look after a run: tiny-world samples, real rewards, made-up policies that get better."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlreward.data.media import Clip, Picture
from vlreward.rewards.composite import Composite
from vlreward.run import Run, RunFolder
from vlreward.statistics import interval, paired_gain
from vlreward.tiny.motion import glide
from vlreward.tiny.scene import COLORS, Thing, draw, scene
from vlreward.tiny.tasks import make
from vlreward.types import RewardTable, Rollout, Sample


@dataclass(frozen=True, kw_only=True)
class Made:
    """A configuration of no command, with what the report reads of one."""

    run: Run
    rewards: Composite
    note: str = "a <b>note</b> & more"


def vlm_run(root: Path, name: str = "tiny-grounding", seed: int = 0, steps: int = 40, held: int = 24) -> RunFolder:
    """`train-vlm`: boxes whose error shrinks over the steps; one judge breaks now and then."""
    rewards = Composite.from_tree([{"kind": "box_iou"}, {"kind": "answer_format", "weight": 0.2}])
    folder = _open(root, name, seed, "train-vlm", rewards)
    rng = random.Random(f"vlm/{seed}")
    for step in range(steps):
        error = 18 * (1 - step / steps) + 2
        rollouts = [_answer(make("grounding", step * 4 + i // 2), error, rng) for i in range(8)]
        if step % 9 == 4:
            rollouts[0] = Rollout(sample=_without_box(rollouts[0].sample), text=rollouts[0].text)
        table = rewards(rollouts)
        _log(folder, step, table, rng, rewards.names)
        folder.rollouts("train", step, rollouts, table, range(3))
    samples = [make("grounding", 10**9 + i) for i in range(held)]
    _held_out(folder, rewards, *([_answer(sample, error, rng) for sample in samples] for error in (16.0, 4.0)), steps=steps)
    return folder


def flow_run(root: Path, name: str = "tiny-objects", seed: int = 0, steps: int = 36, held: int = 24) -> RunFolder:
    """`align`: pictures in which fewer and fewer things have the wrong colour or are missing."""
    rewards = Composite.from_tree([{"kind": "object_match"}])
    folder = _open(root, name, seed, "align", rewards)
    rng = random.Random(f"flow/{seed}")
    for step in range(steps):
        wrong = 0.6 * (1 - step / steps)
        rollouts = [_painted(step * 4 + i // 2, wrong, rng) for i in range(6)]
        table = rewards(rollouts)
        _log(folder, step, table, rng, rewards.names)
        folder.rollouts("train", step, rollouts, table, range(2))
    numbers = [10**9 + i for i in range(held)]
    _held_out(folder, rewards, *([_painted(number, wrong, rng) for number in numbers] for wrong in (0.55, 0.15)), steps=steps)
    return folder


def score_run(root: Path, name: str = "tiny-pairs", pairs: int = 20) -> RunFolder:
    """`score`: pictures with their own caption's demands and with another's, a missing picture and a bad row."""
    from vlreward.score import summarize

    rewards = Composite.from_tree([{"kind": "object_match"}, {"kind": "exact_match"}])
    folder = _open(root, name, 0, "score", rewards)
    samples = []
    for i in range(pairs):
        right, other = make("captions", i), make("captions", i + 1000)
        samples += [_pair(right, right, i, True), _pair(right, other, i, False)]
    samples[3] = Sample(id=samples[3].id, prompt=samples[3].prompt, visuals=(Picture("nowhere/missing.png"),), target=samples[3].target)
    rollouts = [Rollout(sample=sample) for sample in samples]
    table = rewards(rollouts)
    folder.rollouts("score", 0, rollouts, table)
    rows: list[dict[str, Any]] = [_scored(table, i, sample) for i, sample in enumerate(samples)]
    rows.append({"id": "pairs.jsonl:41", "error": "caption is empty"})
    (folder.path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder.summary(summarize(rows, rewards.names) | {"seconds": 2.4, "kept": 12})
    folder.status("done")
    return folder


def _open(root: Path, name: str, seed: int, command: str, rewards: Composite) -> RunFolder:
    run = Run(name=name, seed=seed, folder=root)
    return RunFolder.open(run, command, Made(run=run, rewards=rewards))


def _answer(sample: Sample, error: float, rng: random.Random) -> Rollout:
    box = [round(value + rng.gauss(0, error / 2)) for value in sample.target["boxes"][0]]
    text = f"<answer>{box}</answer>" if rng.random() > error / 80 else f"it is at {box}"
    return Rollout(sample=sample, text=text)


def _without_box(sample: Sample) -> Sample:
    """A sample whose reference is broken, so that its judge breaks."""
    return Sample(id=sample.id, prompt=sample.prompt, visuals=sample.visuals, target={**sample.target, "boxes": [[1, 2, 3]]})


def film_run(root: Path, name: str = "tiny-video", seed: int = 0, steps: int = 12, held: int = 8) -> RunFolder:
    """`align` of a generator of clips: fewer and fewer of them stand still."""
    rewards = Composite.from_tree([{"kind": "motion_match"}])
    folder = _open(root, name, seed, "align", rewards)
    rng = random.Random(f"film/{seed}")
    for step in range(steps):
        rollouts = [_filmed(step * 4 + i // 2, 0.6 * (1 - step / steps), rng) for i in range(4)]
        table = rewards(rollouts)
        _log(folder, step, table, rng, rewards.names)
        folder.rollouts("train", step, rollouts, table, range(2))
    numbers = [10**9 + i for i in range(held)]
    _held_out(folder, rewards, *([_filmed(number, wrong, rng) for number in numbers] for wrong in (0.6, 0.1)), steps=steps)
    return folder


def _filmed(number: int, still: float, rng: random.Random) -> Rollout:
    sample = make("glides", number)
    clip = glide(random.Random(f"glides/{number}")).clip(32)
    return Rollout(sample=sample, made=Clip(clip.tensor[:1].expand(5, -1, -1, -1)) if rng.random() < still else clip, group=number)


def _painted(number: int, wrong: float, rng: random.Random) -> Rollout:
    sample, view = make("objects", number), scene(random.Random(f"objects/{number}"))
    things = [t if rng.random() > wrong else Thing(rng.choice(list(COLORS)), t.shape, t.x, t.y, t.side) for t in view.things]
    kept = tuple(things if rng.random() > wrong / 2 else things[1:])
    return Rollout(sample=sample, made=Picture(draw(kept, 32, 32)))


def _pair(picture: Sample, words: Sample, number: int, matched: bool) -> Sample:
    target = {**words.target, "pair": f"pair-{number}", "matched": matched}
    return Sample(id=f"pair-{number}-{'right' if matched else 'wrong'}", prompt=words.prompt, visuals=picture.visuals, target=target)


def _scored(table: RewardTable, row: int, sample: Sample) -> dict[str, Any]:
    scores = {n: None if (v := table.scores[row, c].item()) != v else v for c, n in enumerate(table.names)}
    total = table.total[row].item()
    errors = {"error": "; ".join(table.errors(row))} if table.errors(row) else {}
    match = {key: sample.target[key] for key in ("pair", "matched")}
    return {"id": sample.id, "prompt": sample.prompt, "score": None if total != total else total, "scores": scores, **errors, **match}


def _log(folder: RunFolder, step: int, table: RewardTable, rng: random.Random, names: Sequence[str]) -> None:
    found = interval(table.total.tolist())
    terms = {f"reward/{name}": interval(table.scores[:, column].tolist()).mean for column, name in enumerate(names)}
    times = {"time/generate": rng.uniform(0.5, 0.7), "time/reward": rng.uniform(0.02, 0.04), "time/update": rng.uniform(0.2, 0.35)}
    figures = {"reward/total": found.mean, "reward/total_low": found.low, "reward/total_high": found.high, **terms, **times}
    policy = {"loss/policy": rng.gauss(0, 0.01), "loss/kl": 0.0004 * step + rng.uniform(0, 0.002), "dead_groups": rng.uniform(0, 0.3)}
    folder.log(step, **figures, **policy)


def _held_out(folder: RunFolder, rewards: Composite, before: list[Rollout], after: list[Rollout], steps: int) -> None:
    tables = [rewards(before), rewards(after)]
    for phase, step, rollouts, table in (("before", 0, before, tables[0]), ("after", steps, after, tables[1])):
        folder.evaluation(phase, rollouts, table)
        folder.rollouts(phase, step, rollouts, table)
    columns = {"total": [t.total.tolist() for t in tables]}
    columns |= {name: [t.scores[:, i].tolist() for t in tables] for i, name in enumerate(rewards.names)}
    held = {}
    for name, (first, last) in columns.items():
        parts = {"before": interval(first), "after": interval(last), "gain": paired_gain(first, last)}
        held[name] = {}
        for key, found in parts.items():
            held[name] |= {key: found.mean, f"{key}_low": found.low, f"{key}_high": found.high}
        held[name]["count"] = parts["gain"].count
    folder.summary({"held_out": held, "seconds": 183.4, "steps": steps})
    folder.status("done")
