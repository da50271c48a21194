#!/usr/bin/env python3
"""Held-out pictures of an align run side by side: grid.py runs/tiny-objects before_after.png

The upper half shows the first held-out prompts before training, the lower half the same prompts with the same noise after it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image

COLUMNS, ROWS, ZOOM, GAP = 16, 2, 2, 6


def grid(run: Path) -> Image.Image:
    """Both halves as one picture."""
    rows = [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]
    halves = [[row["picture"] for row in rows if row["phase"] == phase][: COLUMNS * ROWS] for phase in ("before", "after")]
    tiles = [[Image.open(run / name).convert("RGB") for name in half] for half in halves]
    width, height = tiles[0][0].width * ZOOM, tiles[0][0].height * ZOOM
    sheet = Image.new("RGB", (COLUMNS * width, 2 * ROWS * height + GAP), "black")
    for half, pictures in enumerate(tiles):
        for i, picture in enumerate(pictures):
            place = (i % COLUMNS * width, (half * ROWS + i // COLUMNS) * height + half * GAP)
            sheet.paste(picture.resize((width, height), Image.Resampling.NEAREST), place)
    return sheet


if __name__ == "__main__":
    if len(sys.argv) != 3 or not (Path(sys.argv[1]) / "evaluation_after.jsonl").is_file():
        sys.exit("usage: grid.py RUN_FOLDER PICTURE, where the run is a finished `vlreward align`")
    grid(Path(sys.argv[1])).save(sys.argv[2])
