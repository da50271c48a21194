#!/usr/bin/env python3
"""Train assets/tiny-critic, which reads reports about tiny scenes and pictures for captions, from assets/tiny-vlm-judge.

    python scripts/build_critic.py                # trains in two stages, then writes the asset: a quarter of an hour of a core
    python scripts/build_critic.py --places       # assets/tiny-critic-places from that asset: five minutes of a core
    python scripts/build_critic.py --write        # writes the asset again from the run (or --places --write the other)

First it learns which sentences of a report are true (configs/critic/tiny_steps.yaml), then, with a number at the end in their place, to
order whole reports and drawings. It is kept in bfloat16 so that it is small. The other one was trained on from there by
configs/critic/tiny_places.yaml, on reports as a policy writes them, with places.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from vlreward.config import load, parse
from vlreward.critics.config import TrainCritic
from vlreward.critics.evaluate import judge
from vlreward.critics.measures import figures
from vlreward.critics.network import Critic
from vlreward.critics.train import train
from vlreward.tiny.preferences import TinyComparisons

ROOT = Path(__file__).parent.parent
ASSET, PLACES = (ROOT / "assets" / name for name in ("tiny-critic", "tiny-critic-places"))
PIXELS = [9216, 9216]
SENTENCES = "tiny-critic-steps"
"""The first stage's run."""
MIX = [
    {"kind": "tiny", "task": "reports", "count": 2500, "answers": 3},
    {"kind": "tiny", "task": "drawings", "count": 1000, "answers": 3},
    {"kind": "tiny", "task": "drawings", "count": 1000, "answers": 3, "side": 32, "seed": 1},
]
HELD_OUT = [{"kind": "tiny", "task": task, "count": 100, "holdout": True} for task in ("reports", "drawings")]
OPTIM = {"lr": 1e-3, "warmup": 20, "schedule": "cosine", "betas": [0.9, 0.98], "weight_decay": 0.01, "save_every": 40}


def configuration(folder: Path, steps: int) -> TrainCritic:
    """The second stage."""
    tree = {
        "run": {"name": "tiny-critic", "seed": 7, "folder": str(folder)},
        "data": {"kind": "chain", "of": MIX},
        "eval": {"data": {"kind": "chain", "of": HELD_OUT}},
        "critic": {"model": str(folder / SENTENCES / "critic"), "head": {"kind": "scalar", "layers": 2}, "pixels": PIXELS},
        "batch": 16,
        "optim": OPTIM | {"steps": steps},
    }
    return parse(TrainCritic, tree)


def write(run: Path, asset: Path, tasks: dict[str, dict[str, Any]]) -> None:
    """The run's critic in bfloat16, as the asset, and its figures then on held-out comparisons of these tasks."""
    critic = Critic.load(run / "critic")
    critic.trunk.to(torch.bfloat16)
    critic.save(asset)
    for file in asset.iterdir():
        file.chmod(0o644)
    again = Critic.load(asset)
    for name, task in tasks.items():
        one = figures(judge(again, TinyComparisons(holdout=True, **task).comparisons(), 16))
        accuracy, length = one["pair_accuracy"], one["length"]
        print(name, {key: round(value, 4) for key, value in accuracy.items()}, round(one["calibration"]["ece"], 4), length, flush=True)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [{k: round(v, 5) for k, v in row.items() if not k.startswith("time/")} for row in rows if row["step"] % 10 == 0]
    (asset / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--places", action="store_true", help="the critic of reports with places, from the shipped one")
    parser.add_argument("--write", action="store_true", help="only write the asset again")
    options = parser.parse_args()
    reports = {"task": "reports", "count": 512}
    if options.places:
        config, _ = load(ROOT / "configs" / "critic" / "tiny_places.yaml", [f"run.folder={options.folder}"], TrainCritic)
        stages, asset, tasks = [config], PLACES, {"reports with places": {**reports, "places": True}, "reports": reports}
    else:
        first, _ = load(ROOT / "configs" / "critic" / "tiny_steps.yaml", [f"run.folder={options.folder}"], TrainCritic)
        config = configuration(options.folder, options.steps)
        drawings = {"drawings": {"task": "drawings", "count": 512}, "drawings of 32 pixels": {"task": "drawings", "count": 256, "side": 32}}
        stages, asset, tasks = [first, config], ASSET, {"reports": reports, **drawings}
    for stage in stages if not options.write else ():
        train(stage, resume=(options.folder / stage.run.name).exists())
    write(config.run.folder / config.run.name, asset, tasks)


if __name__ == "__main__":
    main()
