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

    def __call__(self, **figures: float) -> None:
        row = {"stage": self.stage, "seconds": round(time.time() - self.start), **{k: round(v, 5) for k, v in figures.items()}}
        print(row, flush=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
