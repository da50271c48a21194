"""Marks each thing in a run's tiny-world pictures as right or wrong: python scripts/region_preferences.py runs/NAME-eval/rollouts.jsonl

Stands for people who mark wrong glyphs in pictures. Writes regions.jsonl beside the file: its rows, with `regions` that score 1 where the
found thing was asked for (in its color, and no more often than that) and 0 where not; things of one shape have one label.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from vlreward.tiny.scene import COLORS
from vlreward.tiny.tasks import make

SIDE = 32
"""Pixels of the pictures."""


def regions(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Of one logged rollout, from what the detector marked in it."""
    task, seed = row["id"].rsplit("-", 1)
    left = Counter()
    for wanted in make(task, int(seed)).target["objects"]:
        left[wanted.get("color"), wanted["label"]] += wanted["count"]
    found = []
    for mark in sorted((mark for mark in row["marks"] if mark["role"] == "found"), key=lambda mark: -float(mark["label"].split()[-1])):
        color, *shape, _ = mark["label"].split()
        box = [min(1.0, max(0.0, place / SIDE)) for place in mark["box"]]
        if color not in COLORS or box[0] >= box[2] or box[1] >= box[3]:
            continue
        key = (color, " ".join(shape))
        right, left[key] = left[key] > 0, left[key] - 1
        found.append({"box": box, "score": float(right), "label": key[1]})
    return found


def main(path: str) -> None:
    source = Path(path)
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    out = [{"prompt": row["prompt"], "picture": row["picture"], "target": {"total": row["total"], "regions": regions(row)}} for row in rows]
    (source.parent / "regions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in out))
    marked = [region["score"] for row in out for region in row["target"]["regions"]]
    print(f"{len(out)} pictures, {len(marked)} things, {sum(marked):.0f} of them right")


if __name__ == "__main__":
    main(*sys.argv[1:])
