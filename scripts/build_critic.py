#!/usr/bin/env python3
"""Train assets/tiny-critic, which reads reports about tiny scenes and pictures for captions, from assets/tiny-vlm-judge.

    python scripts/build_critic.py                # trains in two stages, then writes the asset: a quarter of an hour of a core
    python scripts/build_critic.py --write        # writes the asset again from the run

First it learns which sentences of a report are true (configs/critic/tiny_steps.yaml), then, with a number at the end in their place, to
order whole reports and drawings. It is kept in bfloat16 so that it is small.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from vlreward.config import load, parse
from vlreward.critics.config import TrainCritic
from vlreward.critics.evaluate import judge
from vlreward.critics.measures import figures
from vlreward.critics.network import Critic
from vlreward.critics.train import train
from vlreward.tiny.preferences import TinyComparisons

ROOT = Path(__file__).parent.parent
ASSET = ROOT / "assets" / "tiny-critic"
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


def write(run: Path) -> None:
    """The run's critic in bfloat16, as the asset, and what that does to its held-out figures."""
    critic = Critic.load(run / "critic")
    critic.trunk.to(torch.bfloat16)
    critic.save(ASSET)
    for file in ASSET.iterdir():
        file.chmod(0o644)
    again = Critic.load(ASSET)
    found = {}
    for task in ("reports", "drawings"):
        judged = judge(again, TinyComparisons(task=task, count=512, holdout=True).comparisons(), 16)
        found[task] = figures(judged)
    small = judge(again, TinyComparisons(task="drawings", count=256, holdout=True, side=32).comparisons(), 16)
    found["drawings of 32 pixels"] = figures(small)
    for task, one in found.items():
        accuracy, length = one["pair_accuracy"], one["length"]
        print(task, {key: round(value, 4) for key, value in accuracy.items()}, round(one["calibration"]["ece"], 4), length, flush=True)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [{k: round(v, 5) for k, v in row.items() if not k.startswith("time/")} for row in rows if row["step"] % 10 == 0]
    (ASSET / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--write", action="store_true", help="only write the asset again")
    options = parser.parse_args()
    config = configuration(options.folder, options.steps)
    if not options.write:
        first, _ = load(ROOT / "configs" / "critic" / "tiny_steps.yaml", [f"run.folder={options.folder}"], TrainCritic)
        train(first, resume=(options.folder / SENTENCES).exists())
        train(config, resume=(options.folder / config.run.name).exists())
    write(config.run.folder / config.run.name)


if __name__ == "__main__":
    main()
