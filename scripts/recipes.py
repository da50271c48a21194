"""Run configurations over several seeds and print what each gained on held-out samples, as a table for the README.

    python scripts/recipes.py configs/vlm/tiny_*.yaml --seeds 7 8 9 --control

A run whose folder has a summary already is not run again. `--control` adds one run with shuffled rewards, which must not gain; `--total`
adds what the weighted sum of all rewards gained with the first seed, beside the first reward.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMANDS = {"vlm": "train-vlm", "align": "align"}


def run(config: Path, name: str, overrides: list[str], folder: Path) -> dict[str, Any]:
    """The summary of one run; made first where it is not there yet."""
    done = folder / name / "summary.json"
    if not done.is_file():
        command = [sys.executable, "-m", "vlreward.cli", COMMANDS[config.parent.name], str(config)]
        began = ["--resume"] if (folder / name).exists() else []
        subprocess.run([*command, f"run.name={name}", f"run.folder={folder}", *overrides, *began], check=True, stdout=subprocess.DEVNULL)
    return json.loads(done.read_text())


def gained(held_out: dict[str, float]) -> str:
    return f"{held_out['gain']:+.3f} [{held_out['gain_low']:+.3f}, {held_out['gain_high']:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[7])
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--total", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    options = parser.parse_args()
    columns = ["config", "held-out", "before", *(f"gain, seed {seed}" for seed in options.seeds), *["shuffled rewards"] * options.control]
    columns += ["all rewards"] * options.total
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|", flush=True)
    for config in options.configs:
        runs = {f"{config.stem}-{seed}": [f"run.seed={seed}"] for seed in options.seeds}
        runs |= {f"{config.stem}-shuffled": ["control=shuffle_rewards"]} if options.control else {}
        found = [run(config, name, overrides, options.folder)["held_out"] for name, overrides in runs.items()]
        name = next(iter(found[0]))
        cells = [f"`{config.stem}`", f"`{name}`", f"{found[0][name]['before']:.3f}", *(gained(held_out[name]) for held_out in found)]
        cells += [gained(found[0]["total"])] * options.total
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
