"""The training curve of an asset, as rows of its training.jsonl."""

from __future__ import annotations

import json
import time
from pathlib import Path


class Curve:
    """Appends rows to training.jsonl and prints them; a stage that is trained again replaces its rows."""

    def __init__(self, path: Path, stage: str):
        self.path, self.stage, self.start = path, stage, time.time()
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["stage"] != stage))
        self.losses: dict[str, list[float]] = {}

    def __call__(self, **figures: float) -> None:
        row = {"stage": self.stage, "seconds": round(time.time() - self.start), **{k: round(v, 5) for k, v in figures.items()}}
        print(row, flush=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def add(self, name: str, loss: float) -> None:
        """One step's loss of a task, for the next `means`."""
        self.losses.setdefault(name, []).append(loss)

    def means(self, step: int) -> None:
        """A row of each task's mean loss since the last such row."""
        self(step=step, **{name: sum(values) / len(values) for name, values in sorted(self.losses.items())})
        self.losses = {}
