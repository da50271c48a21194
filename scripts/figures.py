"""What the measuring scripts saw, a line of JSON a run: kept in `assets/figures`, so that a table of the README can be made again, gone on
with and looked into without making its runs again."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "assets" / "figures"


class Figures:
    """The runs of one file by name. A run that is kept twice counts as it was the last time; one whose configuration has changed since is
    left out, with a line that says so.

    Raises SystemExit where a line is not one of a run.
    """

    def __init__(self, path: Path):
        self.path = path
        self.runs: dict[str, dict[str, Any]] = {}
        lines = path.read_text().splitlines() if path.is_file() else []
        for number, line in enumerate(lines, 1):
            try:
                found = json.loads(line)
                self.runs[found["run"]] = found
            except (ValueError, KeyError, TypeError):
                raise SystemExit(f"{path}:{number}: not a run: expected a JSON object with the key 'run'. Delete the line") from None
        for run, found in list(self.runs.items()):
            if "config" in found and found["mark"] != mark(ROOT / found["config"]):
                print(f"{path}: {run} is left out: {found['config']} has changed since", file=sys.stderr)
                del self.runs[run]

    def __contains__(self, run: str) -> bool:
        return run in self.runs

    def __getitem__(self, run: str) -> dict[str, Any]:
        return self.runs[run]

    def keep(self, run: str, figures: dict[str, Any], config: Path) -> dict[str, Any]:
        """Writes what a run of a configuration of this tree showed behind the others, with the commit that it was made at."""
        of = {"config": str(config.resolve().relative_to(ROOT.resolve())), "mark": mark(config)}
        self.runs[run] = {"run": run, "commit": commit(), **of, **figures}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(self.runs[run], separators=(",", ":")) + "\n")
        return self.runs[run]


def mark(config: Path) -> str:
    """Of what a configuration says, comments and spelling aside; empty where there is none."""
    tree = yaml.safe_load(config.read_text()) if config.is_file() else None
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:12] if tree else ""


def commit() -> str:
    """The short hash of the tree that runs; empty outside of a checkout."""
    found = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip()
