"""Run configurations over several seeds and print what each gained on held-out samples, as a table for the README.

    python scripts/recipes.py configs/vlm/tiny_*.yaml --seeds 7 8 9 --control

A run whose folder has a summary already is not run again. `--control` adds one run with shuffled rewards, which must not gain; `--total`
adds what the weighted sum of all rewards gained with the first seed, beside the first reward; `--known` runs nothing, and leaves open
what was not run. The last column is the processor time of the first seed's run, evaluations included, which is the same on a busy
machine; of a run that was not made here, or in several sittings, its seconds by the clock.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMANDS = {"vlm": "train-vlm", "align": "align"}
SPENT = "processor_seconds.json"
OPEN = "-"


def run(config: Path, name: str, overrides: list[str], folder: Path) -> None:
    """One run, unless it is there already; its processor time is written beside it."""
    if (folder / name / "summary.json").is_file():
        return
    command = [sys.executable, "-m", "vlreward.cli", COMMANDS[config.parent.name], str(config)]
    began = ["--resume"] if (folder / name).exists() else []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, f"run.name={name}", f"run.folder={folder}", *overrides, *began], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not began:
        spent = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
        (folder / name / SPENT).write_text(json.dumps(round(spent, 3)))


def read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def gained(held_out: dict[str, float] | None) -> str:
    return f"{held_out['gain']:+.3f} [{held_out['gain_low']:+.3f}, {held_out['gain_high']:+.3f}]" if held_out else OPEN


def took(folder: Path) -> str:
    """How long a run took."""
    spent, summary = read(folder / SPENT), read(folder / "summary.json")
    return f"{spent:.0f} s" if spent else f"{summary['seconds']:.0f} s by the clock" if summary else OPEN


def row(config: Path, names: list[str], folder: Path, total: bool) -> list[str]:
    """What the runs of one configuration gained."""
    found = [(read(folder / name / "summary.json") or {}).get("held_out", {}) for name in names]
    first = next(iter(found[0]), "")
    before = f"{found[0][first]['before']:.3f}" if first else OPEN
    cells = [f"`{config.stem}`", f"`{first}`" if first else OPEN, before, *(gained(held_out.get(first)) for held_out in found)]
    return [*cells, *[gained(found[0].get("total"))] * total, took(folder / names[0])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[7])
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--total", action="store_true")
    parser.add_argument("--known", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    options = parser.parse_args()
    columns = ["config", "held-out", "before", *(f"gain, seed {seed}" for seed in options.seeds), *["shuffled rewards"] * options.control]
    columns += [*["all rewards"] * options.total, "processor"]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|", flush=True)
    for config in options.configs:
        runs = {f"{config.stem}-{seed}": [f"run.seed={seed}"] for seed in options.seeds}
        runs |= {f"{config.stem}-shuffled": ["control=shuffle_rewards"]} if options.control else {}
        for name, overrides in () if options.known else runs.items():
            run(config, name, overrides, options.folder)
        print("| " + " | ".join(row(config, [*runs], options.folder, options.total)) + " |", flush=True)


if __name__ == "__main__":
    main()
