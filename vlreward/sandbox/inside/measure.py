"""What can be seen of a replayed figure: its texts, its marks with kinds and colours, and where its panels stand."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from vlreward.sandbox.inside.calls import PRIMITIVES
from vlreward.sandbox.inside.replay import Replay

SEEN = 0.05
"""Share of a mark's ink that must be left in the picture."""
SEEN_TEXT = 0.5
PALETTE = 8
"""Colours kept of one mark; a colour map has hundreds."""
FURNITURE = frozenset({"legend", "tick", "axis", "spine", "paper", "text"})


def measure(replay: Replay) -> dict[str, Any]:
    """`texts` [[string, whether at a tick]], `marks` [[kind, [colours as #rrggbb]]], `boxes` of visible panels in 0-1, and `ink`, the
    share of pixels that differ from the first one."""
    seen = replay.canvas.visible()
    texts = [[text["text"], text["role"] == "tick"] for text in replay.legible() if seen.get(text["number"], 0) >= SEEN_TEXT]
    return {
        "texts": texts,
        "marks": marks([shape for shape in replay.shapes if shape["role"] not in FURNITURE and seen.get(shape["number"], 0) >= SEEN]),
        "boxes": panels(replay),
        "ink": float((replay.canvas.words != replay.canvas.words[0, 0]).mean()),
    }


def marks(shapes: list[dict]) -> list[list]:
    """One mark for each plotting call, and for each artist that no call drew."""
    groups: dict[tuple, list[dict]] = defaultdict(list)
    for shape in shapes:
        groups[("call", shape["tag"]) if shape["tag"] else ("artist", shape["artist"])].append(shape)
    result = []
    for shapes in groups.values():
        primitives = [shape["primitive"] for shape in shapes]
        name = (shapes[0]["tag"] or ":").partition(":")[2]
        kind = name if PRIMITIVES.get(name, frozenset()) & set(primitives) else primitives[0]
        result.append([kind, palette([color for shape in shapes for color in shape["colors"]])])
    return result


def palette(colors: list) -> list[str]:
    """Distinct colours as #rrggbb, without their transparency; at most PALETTE of them, evenly spaced in brightness."""
    rgba = np.array(colors, float).reshape(-1, 4)
    rgb = (rgba[rgba[:, 3] > 0, :3].clip(0, 1) * 255).round().astype(np.uint8)
    distinct = np.unique(rgb, axis=0)
    if len(distinct) > PALETTE:
        order = np.argsort(distinct @ [0.299, 0.587, 0.114], kind="stable")
        distinct = distinct[order[np.linspace(0, len(order) - 1, PALETTE).round().astype(int)]]
    return ["#" + bytes(color).hex() for color in distinct]


def panels(replay: Replay) -> list[list[float]]:
    """Boxes x0 y0 x1 y1 (from the top left, 0-1) of the axes that own a pixel within their box."""
    result = []
    for number, (left, bottom, right, top) in enumerate(replay.boxes):
        box = [left / replay.width, 1 - top / replay.height, right / replay.width, 1 - bottom / replay.height]
        inside = np.clip(box, 0, 1)
        x0, x1 = (inside[[0, 2]] * replay.width).round().astype(int)
        y0, y1 = (inside[[1, 3]] * replay.height).round().astype(int)
        own = np.zeros(replay.count + 1, bool)
        own[[part["number"] for part in (*replay.shapes, *replay.texts) if part["axes"] == number]] = True
        if own[replay.canvas.owner[:, y0 : y1 + 1, x0 : x1 + 1]].any():
            result.append([round(float(value), 4) for value in box])
    return result
