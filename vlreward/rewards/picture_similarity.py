"""How alike two rendered pictures are, on a scale on which an empty page is worth nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter

from vlreward.data.media import Picture
from vlreward.errors import ConfigError, DataError
from vlreward.models import clip

SIDE = 384
"""Pixels of the longer side at which pictures are compared."""
WINDOW = 7
FAINT = 8
"""Of 255: a pixel that differs by less from the paper is paper."""


def scaled(picture: Picture, size: tuple[int, int] | None = None, side: int | None = SIDE) -> np.ndarray:
    """[H,W,3] float in 0-255, at `size` (width, height), or with a longer side of at most `side` (None: as it is)."""
    image = picture.pil
    if size is None:
        factor = min(1.0, side / max(image.size)) if side else 1.0
        size = max(WINDOW, round(image.width * factor)), max(WINDOW, round(image.height * factor))
    return np.asarray(image.resize(size, Image.Resampling.BOX if image.width >= size[0] else Image.Resampling.BILINEAR), dtype=np.float32)


def structural(wanted: Picture, answer: Picture, side: int | None = SIDE) -> float:
    """SSIM over the pixels near which either picture is not paper, 0 where the answer is no better than an empty page. In [0, 1].

    Compared at the wanted picture's size, its longer side at most `side` pixels (None: as it is).
    Raises DataError where the wanted picture is empty.
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise ConfigError("comparing pictures needs the extra 'chart': pip install 'vlreward[chart]'") from error
    first = scaled(wanted, side=side)
    second = scaled(answer, (first.shape[1], first.shape[0]))
    ink = _ink(first)
    if not ink.any():
        raise DataError("the wanted picture is empty")
    ink = maximum_filter(ink | _ink(second), WINDOW)
    papers = np.unique([paper(first), paper(second)], axis=0)

    def similarity(other: np.ndarray) -> float:
        local: Any = structural_similarity(first, other, win_size=WINDOW, channel_axis=2, data_range=255, full=True)[1]
        return float(local[ink].mean())

    return above(similarity(second), max(similarity(np.broadcast_to(color, first.shape)) for color in papers))


def perceptual(wanted: Picture, answer: Picture, model: str, device: str) -> float:
    """Cosine of CLIP's picture features, 0 where the answer is no better than an empty page of the same paper. In [0, 1]."""
    blank = Picture(Image.new("RGB", wanted.size, tuple(int(value) for value in paper(np.asarray(wanted.pil)))))
    first, second, empty = clip.load_clip(model, device).image_features([wanted, answer, blank]).double()
    return above(float(first @ second), float(first @ empty))


def above(value: float, baseline: float) -> float:
    """A similarity of at most 1, rescaled so that the baseline is 0."""
    return min(1.0, max(0.0, (value - baseline) / (1 - baseline))) if baseline < 1 - 1e-9 else 0.0


def paper(pixels: np.ndarray) -> np.ndarray:
    """[3] the median colour of the picture's border."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return np.median(border, axis=0).astype(pixels.dtype)


def _ink(pixels: np.ndarray) -> np.ndarray:
    return np.abs(pixels - paper(pixels)).max(-1) >= FAINT
