"""Regions of a picture, given as boxes, on the grid of its latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vlreward.errors import DataError


@dataclass(frozen=True)
class Region:
    """A box and what is known of it."""

    box: tuple[float, float, float, float]
    """xyxy as shares of the picture's width and height"""
    score: float | None = None
    label: str = ""


def regions_of(target: Mapping[str, Any], where: str) -> list[Region]:
    """The regions in `target.regions`, a list of {box: [x1, y1, x2, y2], score?, label?}; none without one. Raises DataError."""
    found = target.get("regions") or []
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise DataError(f"{where}: target.regions is {str(found)[:80]}, expected a list of {{box: [x1, y1, x2, y2], score: ...}}")
    return [_region(row, f"{where}: target.regions.{i}") for i, row in enumerate(found)]


def _region(row: Mapping[str, Any], where: str) -> Region:
    box, score = row.get("box"), row.get("score")
    numbers = isinstance(box, list) and len(box) == 4 and all(isinstance(n, int | float) for n in box)
    if not numbers or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):  # type: ignore[index]
        raise DataError(f"{where}.box is {box!r}, expected x1 y1 x2 y2 as shares of the picture, 0 <= x1 < x2 <= 1")
    if score is not None and not isinstance(score, int | float):
        raise DataError(f"{where}.score is {score!r}, expected a number")
    return Region(tuple(map(float, box)), None if score is None else float(score), str(row.get("label", "")))  # type: ignore[arg-type]


def coverage(boxes: Sequence[tuple[float, float, float, float]], height: int, width: int) -> torch.Tensor:
    """[H,W] in [0, 1]: how much of each cell the boxes cover, by the box that covers most of it."""
    found = torch.zeros(height, width)
    for x1, y1, x2, y2 in boxes:
        across, down = _share(x1 * width, x2 * width, width), _share(y1 * height, y2 * height, height)
        found = torch.maximum(found, down[:, None] * across[None, :])
    return found


def _share(low: float, high: float, count: int) -> torch.Tensor:
    """[count]: the part of each unit cell between two places."""
    left = torch.arange(count, dtype=torch.float32)
    return (torch.clamp(left + 1, max=high) - torch.clamp(left, min=low)).clamp(min=0)
