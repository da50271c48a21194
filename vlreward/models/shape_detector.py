"""The tiny world's detector: colour segmentation and silhouette matching. No network, exact enough to be ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from vlreward.data.media import Picture
from vlreward.models.detector import Detection, Detector
from vlreward.registry import register
from vlreward.tiny.scene import COLORS, PAPER, SHAPES, silhouette

NAMES = tuple(COLORS)
PALETTE = np.array([PAPER, *COLORS.values()], dtype=np.float32) / 255


@register("tiny_shapes")
@dataclass(kw_only=True)
class ShapeDetector(Detector):
    """Finds the tiny world's shapes: pixels go to the nearest colour, connected regions to the silhouette they overlap best.

    The confidence is that overlap (soft IoU) times how pure the region's colour is, so a blurred or half-drawn shape scores low.
    """

    min_side: float = 0.12
    """A region whose box is narrower than this share of the picture's side is a speck and left out."""

    def detect(self, pictures: Sequence[Picture], labels: Sequence[Sequence[str]]) -> list[list[Detection]]:
        return [self._detect(np.asarray(picture.pil, dtype=np.float32) / 255) for picture in pictures]

    def _detect(self, image: np.ndarray) -> list[Detection]:
        height, width, _ = image.shape
        distance = ((image[:, :, None, :] - PALETTE) ** 2).sum(-1)
        nearest = distance.argmin(-1)
        found = []
        for index, color in enumerate(NAMES, start=1):
            regions, _ = ndimage.label(nearest == index)  # type: ignore[misc]
            for number, window in enumerate(ndimage.find_objects(regions), start=1):
                rows, columns = window
                mask = (regions[window] == number).astype(np.float32)
                if min(mask.shape[0] / height, mask.shape[1] / width) < self.min_side:
                    continue
                coverage = mask * _coverage(image[window], PALETTE[index])
                fits = {shape: _soft_iou(coverage, silhouette(shape, mask.shape[1], mask.shape[0])) for shape in SHAPES}
                shape = max(fits, key=lambda name: fits[name])
                box = (float(columns.start), float(rows.start), float(columns.stop), float(rows.stop))
                found.append(Detection(shape, color, box, fits[shape]))
        return sorted(found, key=lambda detection: -detection.score)


def _coverage(image: np.ndarray, color: np.ndarray) -> np.ndarray:
    """[H,W] how much of each pixel is `color` rather than paper: 1 at the colour, 0 at the paper or farther away."""
    paper = PALETTE[0]
    error = np.sqrt(((image - color) ** 2).sum(-1))
    return np.clip(1 - error / np.sqrt(((paper - color) ** 2).sum()), 0, 1)


def _soft_iou(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.minimum(a, b).sum() / max(float(np.maximum(a, b).sum()), 1e-9))
