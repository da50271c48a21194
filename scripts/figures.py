"""What the measuring scripts saw, a line of JSON a run: kept in `assets/figures`, so that a table of the README can be made again, gone on
with and looked into without making its runs again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "assets" / "figures"


class Figures:
    """The runs of one file by name. A run that is kept twice counts as it was the last time.

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

    def __contains__(self, run: str) -> bool:
        return run in self.runs

    def __getitem__(self, run: str) -> dict[str, Any]:
        return self.runs[run]

    def keep(self, run: str, figures: dict[str, Any]) -> dict[str, Any]:
        """Writes what a run showed behind the others, with the commit that it was made at."""
        self.runs[run] = {"run": run, "commit": commit(), **figures}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(self.runs[run], separators=(",", ":")) + "\n")
        return self.runs[run]


def commit() -> str:
    """The short hash of the tree that runs; empty outside of a checkout."""
    found = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip()
