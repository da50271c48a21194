"""A canvas that knows which operation owns each of its pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg

from vlreward.sandbox.inside.document import DPI

INK = 16
"""Of 255: a pixel that an operation changes by less is not drawn on."""
OPAQUE = 0.9
"""Alpha from which what lies below counts as covered."""
LAYERS = 4
"""Operations that are kept of each pixel, an opaque one and translucent ones over it; further ones hide the lowest."""
FADED = 0.8
"""Share of a pixel's ink that translucent ones over it take away until it counts as covered."""


class Ink(NamedTuple):
    """What an operation did to its region of the canvas."""

    window: tuple[slice, slice]
    before: np.ndarray
    after: np.ndarray
    """[h,w] uint32, a pixel as one number"""
    contrast: int
    """The strongest change of a channel, of 255"""


class Canvas:
    """Agg, and for each pixel the numbers of the operations whose ink can be seen there, the last one first."""

    def __init__(self, width: int, height: int):
        self.renderer = RendererAgg(width, height, DPI)
        self.pixels = np.asarray(self.renderer.buffer_rgba())
        self.pixels[:] = 255
        self.words = self.pixels.view(np.uint32)[..., 0]
        self.owner = np.zeros((LAYERS, height, width), np.uint16)
        self.lost = np.zeros((LAYERS, height, width), np.float16)
        self.veiled = False
        self.drawn: dict[int, int] = {}

    def ink(self, number: int, alpha: float, region: tuple[int, int, int, int], draw: Callable[[], None]) -> Ink | None:
        """Draw and book the pixels of `region` (x0, y0, x1, y1) that changed; None where none did."""
        x0, y0, x1, y1 = region
        window = np.s_[y0:y1, x0:x1]
        pixels, words = self.pixels[window], self.words[window]
        before = words.copy()
        draw()
        changed = words != before
        if not changed.any():
            return None
        old, new = before[changed].view(np.uint8).reshape(-1, 4), pixels[changed]
        change = (np.maximum(old, new) - np.minimum(old, new))[:, :3].max(1)
        strong = change >= INK
        owner, lost = self.owner[:, y0:y1, x0:x1], self.lost[:, y0:y1, x0:x1]
        if alpha < OPAQUE:
            self.veiled = True
            lost[:, changed] += alpha * (1 - lost[:, changed])  # also where it changes little: a hundred faint veils hide what is below
            changed[changed] = strong
            owner[1:, changed], lost[1:, changed] = owner[:-1, changed], lost[:-1, changed]
        else:
            changed[changed] = strong
            if self.veiled:
                owner[1:, changed] = 0
        owner[0, changed] = number
        if self.veiled:
            lost[0, changed] = 0
        self.drawn[number] = int(np.count_nonzero(strong))
        return Ink(window, before, words.copy(), int(change.max()))

    def visible(self) -> dict[int, float]:
        """For each operation the share of its ink that is still to be seen."""
        owner = self.owner[self.lost < FADED] if self.veiled else self.owner[0].ravel()
        seen = np.bincount(owner, minlength=max(self.drawn, default=0) + 1)
        return {number: float(seen[number]) / count for number, count in self.drawn.items() if count}


def remains(ink: Ink, words: np.ndarray) -> float:
    """How much of what an operation changed is in the finished picture: 1 all of it, 0 nothing, or covered all over.

    The slope of the line through (change when drawn, change until now) of all pixels around it. Pixels and channels count alike.
    """
    before, drawn, now = (
        np.ascontiguousarray(part).view(np.uint8).reshape(-1, 4)[:, :3].astype(float) for part in (*ink[1:3], words[ink.window])
    )
    drawn, now = drawn - before, now - before
    drawn -= drawn.mean(0)
    return float((drawn * now).sum() / max((drawn * drawn).sum(), 1e-9))
