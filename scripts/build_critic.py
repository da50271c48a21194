#!/usr/bin/env python3
"""Train the critics of assets: what reads reports about tiny scenes, pictures for captions, and clips.

    python scripts/build_critic.py                        # assets/tiny-critic, from assets/tiny-vlm-judge: a quarter of an hour of a core
    python scripts/build_critic.py tiny-critic-places     # from that asset: five minutes
    python scripts/build_critic.py tiny-critic-clips      # from assets/tiny-vlm-judge: four minutes
    python scripts/build_critic.py --write                # writes an asset again from its run

The first one learns which sentences of a report are true (configs/critic/tiny_steps.yaml), then, with a number at the end in their place,
to order whole reports and drawings. The others are runs of configs/critic/tiny_places.yaml (reports as a policy writes them, with places)
and tiny_clips.yaml. All are kept in bfloat16 so that they are small.
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
REPORTS: dict[str, Any] = {"task": "reports", "count": 512}
DRAWINGS: dict[str, Any] = {"task": "drawings", "count": 512}
ASSETS: dict[str, dict[str, dict[str, Any]]] = {
    "tiny-critic": {"reports": REPORTS, "drawings": DRAWINGS, "drawings of 32 pixels": {**DRAWINGS, "count": 256, "side": 32}},
    "tiny-critic-places": {"reports with places": {**REPORTS, "places": True}, "reports": REPORTS},
    "tiny-critic-clips": {"clips": {"task": "clips", "count": 512, "side": 32}},
}
"""Each with the held-out comparisons that say what it is worth."""
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


def write(run: Path, asset: str) -> None:
    """The run's critic in bfloat16, as the asset, and its figures then."""
    place = ROOT / "assets" / asset
    critic = Critic.load(run / "critic")
    critic.trunk.to(torch.bfloat16)
    critic.save(place)
    for file in place.iterdir():
        file.chmod(0o644)
    again = Critic.load(place)
    for name, task in ASSETS[asset].items():
        one = figures(judge(again, TinyComparisons(holdout=True, **task).comparisons(), 16))
        accuracy, length = one["pair_accuracy"], one["length"]
        print(name, {key: round(value, 4) for key, value in accuracy.items()}, round(one["calibration"]["ece"], 4), length, flush=True)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [{k: round(v, 5) for k, v in row.items() if not k.startswith("time/")} for row in rows if row["step"] % 10 == 0]
    (place / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("asset", nargs="?", choices=[*ASSETS], default="tiny-critic")
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    parser.add_argument("--steps", type=int, default=500, help="of tiny-critic's second stage")
    parser.add_argument("--write", action="store_true", help="only write the asset again")
    options = parser.parse_args()
    last = options.asset.removeprefix("tiny-critic-")
    first, _ = load(
        ROOT / f"configs/critic/tiny_{'steps' if last == options.asset else last}.yaml", [f"run.folder={options.folder}"], TrainCritic
    )
    stages = [first, configuration(options.folder, options.steps)] if last == options.asset else [first]
    for stage in stages if not options.write else ():
        train(stage, resume=(options.folder / stage.run.name).exists())
    write(options.folder / stages[-1].run.name, options.asset)


if __name__ == "__main__":
    main()
