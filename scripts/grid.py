#!/usr/bin/env python3
"""Held-out pictures of an align run side by side: grid.py runs/tiny-objects before_after.png

The upper half shows the first held-out prompts before training, the lower half the same prompts with the same noise after it. Clips
need a file that can move, such as before_after.webp.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image, ImageSequence

COLUMNS, ROWS, ZOOM, GAP = 16, 2, 2, 6


def grid(run: Path) -> list[Image.Image]:
    """Both halves as one picture; of clips, one for each frame."""
    rows = [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]
    halves = [[row["picture"] for row in rows if row["phase"] == phase][: COLUMNS * ROWS] for phase in ("before", "after")]
    tiles = [[[frame.convert("RGB") for frame in ImageSequence.all_frames(Image.open(run / name))] for name in half] for half in halves]
    width, height = tiles[0][0][0].width * ZOOM, tiles[0][0][0].height * ZOOM
    sheets = []
    for number in range(max(len(frames) for half in tiles for frames in half)):
        sheet = Image.new("RGB", (COLUMNS * width, 2 * ROWS * height + GAP), "black")
        for half, clips in enumerate(tiles):
            for i, frames in enumerate(clips):
                place = (i % COLUMNS * width, (half * ROWS + i // COLUMNS) * height + half * GAP)
                sheet.paste(frames[min(number, len(frames) - 1)].resize((width, height), Image.Resampling.NEAREST), place)
        sheets.append(sheet)
    return sheets


if __name__ == "__main__":
    if len(sys.argv) != 3 or not (Path(sys.argv[1]) / "evaluation_after.jsonl").is_file():
        sys.exit("usage: grid.py RUN_FOLDER PICTURE, where the run is a finished `vlreward align`")
    first, *others = grid(Path(sys.argv[1]))
    more = {"save_all": True, "append_images": others, "duration": [125] * len(others) + [625], "loop": 0, "lossless": True}
    first.save(sys.argv[2], **(more if others else {}))
