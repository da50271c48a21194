"""Rewards on answered regions of any outline: masks and polygons."""

from __future__ import annotations

import importlib
import math
import re
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from scipy.optimize import linear_sum_assignment

from vlreward.errors import ConfigError, DataError
from vlreward.registry import register
from vlreward.rewards.answers import final_answer
from vlreward.rewards.frames import Framed
from vlreward.rewards.overlap import Graded
from vlreward.rewards.parsing import NUMBER, PAIR, read_objects
from vlreward.types import Rollout

MAX_REGIONS = 100
"""Regions read from one answer; every further one counts as surplus without being matched."""
MAX_CORNERS = 256
"""A polygon with more is invalid: mending one that crosses itself costs the square of their number."""
FARTHEST = 1e6
"""A polygon with a corner farther out, in pixels, is invalid."""
CORNERS = re.compile(rf"[\[(]\s*+((?:[\[(]{PAIR}[\])]\s*+,?+\s*+){{2,}}|{NUMBER}(?:\s*+,\s*+{NUMBER}){{4,}})\s*+[\])]")
LOOSE = re.compile(rf"(?:[\[(]{PAIR}[\])]\s*+,?+\s*+){{3,}}")


@dataclass(kw_only=True)
class RegionReward(Graded):
    """Base of rewards that match answered regions with wanted ones, one to one."""

    def grade(self, iou: np.ndarray, written: int, what: str) -> tuple[float, str]:
        """Score and note from the IoU [A,W] of regions."""
        value = self.worth(iou)
        score = float(value[linear_sum_assignment(value, maximize=True)].sum()) / max(written, iou.shape[1])
        return score, f"IoU {score:.2f} of {written} answered and {iou.shape[1]} wanted {what}"


@register("mask_iou")
@dataclass(kw_only=True)
class MaskIoU(RegionReward):
    """Mean IoU of answered masks with reference masks, each matched at most once. In [0, 1].

    Masks are COCO run lengths `{"size": [height, width], "counts": ...}`, column by column, compressed (a text) or not (a list), both in
    the last answer and in `target.masks`. The best one-to-one sum is divided by the larger of the two counts. Two masks without a pixel
    have IoU 1; a mask of another size than the reference, or with run lengths that do not fill it, is worth 0.

    Source: COCO's mask IoU (arXiv 1405.0312), by faster-coco-eval.

    Known cheats: many masks (surplus counts 0); a mask over everything (worth the region's share of the area; see `floor` and `form`);
    run lengths made to crash or to overrun the C code that decodes them (they are decoded and checked here first).

    Example: {text: '<answer>{"size": [2, 2], "counts": [0, 2, 2]}</answer>', target: {masks: [{size: [2, 2], counts: [0, 2, 2]}]}} -> 1
    """

    needs = ("text", "target.masks")

    def load(self, device: str) -> None:
        self._masks = _extra("faster_coco_eval.core.mask", "mask_iou")

    def one(self, rollout: Rollout) -> tuple[float, str]:
        masks = rollout.sample.target["masks"]
        masks = [masks] if isinstance(masks, dict) else masks
        wanted = [read_runs(entry) for entry in masks] if isinstance(masks, list | tuple) else []
        if not wanted or None in wanted:
            raise DataError("target.masks is no list of COCO run lengths {size: [height, width], counts: ...} that fill their size")
        answer = final_answer(rollout.text or "")
        if answer is None:
            return 0.0, "no <answer>...</answer>"
        objects = read_objects(answer[0])
        found = [runs for runs in map(read_runs, objects[:MAX_REGIONS]) if runs is not None]
        iou = np.array([[self._iou(first, second) for second in wanted] for first in found]).reshape(len(found), len(wanted))
        return self.grade(iou, len(objects), "masks")

    def _iou(self, first: Any, second: Any) -> float:
        (size, runs), (same, others) = first, second
        if size != same:
            return 0.0
        if sum(runs[1::2]) == sum(others[1::2]) == 0:
            return 1.0
        packed = self._masks.frPyObjects([{"size": list(size), "counts": counts} for counts in (runs, others)], *size)
        return float(self._masks.iou(packed[:1], packed[1:], [False])[0, 0])


def read_runs(entry: Any) -> tuple[tuple[int, int], list[int]] | None:
    """(height, width) and the run lengths of a COCO mask, zeros first; None where it is none or they do not add up to its area."""
    size, counts = (entry.get("size"), entry.get("counts")) if isinstance(entry, dict) else (None, None)
    if not _whole(size) or len(size) != 2:
        return None
    if isinstance(counts, str):
        counts = _unpacked(counts)
    if not _whole(counts) or sum(counts) != size[0] * size[1]:
        return None
    return (int(size[0]), int(size[1])), list(map(int, counts))


def _whole(numbers: Any) -> TypeGuard[list[int]]:
    """Whether this is a list of whole numbers that an area can hold."""
    numeric = isinstance(numbers, list | tuple) and all(type(number) in (int, float) for number in numbers)
    return numeric and all(0 <= number < 2**31 and number == int(number) for number in numbers)


def _unpacked(text: str) -> list[int]:
    """Run lengths from COCO's text: groups of 5 bits from the lowest on, the sixth saying that more follow; from the third run on the
    difference to the one before the last. May hold negative ones where the text is wrong."""
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 35:
            return [-1]
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs if shift == 0 else [-1]


@register("polygon_iou")
@dataclass(kw_only=True)
class PolygonIoU(RegionReward, Framed):
    """Mean IoU of answered polygons with reference polygons, each matched at most once. In [0, 1].

    A polygon is `[[x, y], [x, y], ...]`, `(x, y), (x, y), ...` or `[x, y, x, y, ...]` with 3 to 256 corners, in `frame`;
    `target.polygons` are lists of `[x, y]` in pixels. One that crosses itself is mended (a bow tie becomes two triangles), one without
    area is invalid. The best one-to-one sum is divided by the larger of the two counts.

    Source: intersection over union of areas by shapely, mended with `make_valid`.

    Known cheats: many polygons (surplus counts 0); corners outside of the picture (cut off at its border where its size is known);
    thousands of crossings to stall the judge (256 corners at most); a polygon around everything (worth the region's share; see `floor`
    and `form`).

    Example: {text: "<answer>[[0, 0], [4, 0], [0, 4]]</answer>", target: {polygons: [[[0, 0], [4, 0], [0, 4]]]}} -> 1
    """

    needs = ("text", "target.polygons")

    def __post_init__(self):
        Framed.__post_init__(self)
        Graded.__post_init__(self)

    def load(self, device: str) -> None:
        self._shapely = _extra("shapely", "polygon_iou")

    def one(self, rollout: Rollout) -> tuple[float, str]:
        wanted = []
        polygons = rollout.sample.target["polygons"]
        for i, corners in enumerate(polygons if isinstance(polygons, list | tuple) else []):
            shape = self._shape(corners)
            if shape is None:
                raise DataError(f"target.polygons[{i}] is no list of 3 to {MAX_CORNERS} corners [x, y] with an area")
            wanted.append(shape)
        if not wanted:
            raise DataError(f"target.polygons is {polygons!r}, expected a list of polygons [[x, y], ...]")
        answer = final_answer(rollout.text or "")
        if answer is None:
            return 0.0, "no <answer>...</answer>"
        x, y, width, height = self.scale(rollout)
        written = read_polygons(answer[0])
        shapes = [self._shape(corners * (x, y)) for corners in written[:MAX_REGIONS]]
        if math.isfinite(width):
            picture = self._shapely.box(0, 0, width, height)
            shapes = [shape and shape.intersection(picture) for shape in shapes]
        found = [shape for shape in shapes if shape and shape.area > 0]
        iou = np.array([[first.intersection(second).area / first.union(second).area for second in wanted] for first in found])
        return self.grade(iou.reshape(len(found), len(wanted)), len(written), "polygons")

    def _shape(self, corners: Any) -> Any:
        try:
            points = np.array(corners, dtype=np.float64)
        except (TypeError, ValueError):
            return None
        if points.ndim != 2 or points.shape[1] != 2 or not 3 <= len(points) <= MAX_CORNERS or not (np.abs(points) <= FARTHEST).all():
            return None
        shape = self._shapely.make_valid(self._shapely.Polygon(points), method="structure", keep_collapsed=False)
        return shape if shape.area > 0 else None


def read_polygons(answer: str) -> list[np.ndarray]:
    """[K,2] the corners of each polygon of an answer, as written; one with an odd number of coordinates has no corners."""
    found = [match.group(1) for match in CORNERS.finditer(answer)] or [match.group() for match in LOOSE.finditer(answer)]
    polygons = []
    for text in found:
        numbers = [float(number) for number in re.findall(NUMBER, text)]
        polygons.append(np.array(numbers if len(numbers) % 2 == 0 else []).reshape(-1, 2))
    return polygons


def _extra(module: str, reward: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"reward {reward!r} needs the extra 'regions': pip install 'vlreward[regions]'") from error
