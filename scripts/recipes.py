"""Run configurations over several seeds and print what each gained on held-out samples, as a table for the README.

    python scripts/recipes.py configs/vlm/tiny_*.yaml --seeds 7 8 9 --control

What a run gained is a line of `--figures` (assets/figures/recipes.jsonl), and a run that is there is not run again. `--control` adds one
run with shuffled rewards, which must not gain; `--total` adds what the weighted sum of all rewards gained with the first seed, beside the
first reward; `--known` runs nothing, and leaves open what was not run. The last column is the processor time of the first of its runs that
has one, evaluations included, which is the same on a busy machine; where all were made in several sittings, the seconds by the clock.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from figures import KEPT, Figures

COMMANDS = {"vlm": "train-vlm", "align": "align"}
OPEN = "-"


def run(config: Path, name: str, overrides: list[str], folder: Path) -> float | None:
    """One run, unless it is there already. Gives the processor time of one that was made in one sitting."""
    if (folder / name / "summary.json").is_file():
        return None
    command = [sys.executable, "-m", "vlreward.cli", COMMANDS[config.parent.name], str(config)]
    began = ["--resume"] if (folder / name).exists() else []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, f"run.name={name}", f"run.folder={folder}", *overrides, *began], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return None if began else (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def keep(config: Path, name: str, overrides: list[str], options: argparse.Namespace) -> None:
    """A run and what it gained, unless that is known."""
    if name in options.figures:
        return
    spent = run(config, name, overrides, options.folder)
    summary = json.loads((options.folder / name / "summary.json").read_text())
    shown = {key: summary[key] for key in ("held_out", "seconds")}
    options.figures.keep(name, shown | ({"processor": round(spent, 1)} if spent else {}), config)


def gained(held_out: dict[str, float] | None) -> str:
    return f"{held_out['gain']:+.3f} [{held_out['gain_low']:+.3f}, {held_out['gain_high']:+.3f}]" if held_out else OPEN


def took(runs: list[dict[str, Any]]) -> str:
    """How long a run took: the first whose processor time is known, or else the first."""
    known = [f"{shown['processor']:.0f} s" for shown in runs if "processor" in shown]
    known += [f"{shown['seconds']:.0f} s by the clock" for shown in runs if "seconds" in shown]
    return next(iter(known), OPEN)


def row(config: Path, names: list[str], options: argparse.Namespace) -> list[str]:
    """What the runs of one configuration gained."""
    shown = [options.figures.runs.get(name, {}) for name in names]
    found = [one.get("held_out", {}) for one in shown]
    first = next(iter(found[0]), "")
    before = f"{found[0][first]['before']:.3f}" if first else OPEN
    cells = [f"`{config.stem}`", f"`{first}`" if first else OPEN, before, *(gained(held_out.get(first)) for held_out in found)]
    return [*cells, *[gained(found[0].get("total"))] * options.total, took([one for one in shown if one])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[7])
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--total", action="store_true")
    parser.add_argument("--known", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    parser.add_argument("--figures", type=Path, default=KEPT / "recipes.jsonl")
    options = parser.parse_args()
    options.figures = Figures(options.figures)
    columns = ["config", "held-out", "before", *(f"gain, seed {seed}" for seed in options.seeds), *["shuffled rewards"] * options.control]
    columns += [*["all rewards"] * options.total, "processor"]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|", flush=True)
    for config in options.configs:
        runs = {f"{config.stem}-{seed}": [f"run.seed={seed}"] for seed in options.seeds}
        runs |= {f"{config.stem}-shuffled": ["control=shuffle_rewards"]} if options.control else {}
        for name, overrides in () if options.known else runs.items():
            keep(config, name, overrides, options)
        print("| " + " | ".join(row(config, [*runs], options)) + " |", flush=True)


if __name__ == "__main__":
    main()
