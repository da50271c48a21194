"""Plates of a few large letters, one in each 24 pixels: the least text that still has to be read."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass

from PIL import Image, ImageDraw

from vlreward.tiny.signs import INKS, font

FONTS = ("DejaVuSans-Bold", "DejaVuSansMono-Bold", "DejaVuSerif-Bold")
CELL = 24
"""Pixels of a letter's cell."""
ROOM = 4
"""Cells of a plate."""
WANDER = 1.5
"""Pixels by which a letter is off the middle of its cell, at most."""


@dataclass(frozen=True)
class Plate:
    """Letters from the left, the rest of the plate empty; `text` is the transcription."""

    text: str
    font: str
    ink: str
    offsets: tuple[tuple[float, float], ...]

    def picture(self) -> Image.Image:
        """The plate as RGB, 96 x 24 pixels."""
        image = Image.new("RGB", (ROOM * CELL, CELL), "white")
        canvas = ImageDraw.Draw(image)
        for i, (letter, (dx, dy)) in enumerate(zip(self.text, self.offsets, strict=True)):
            middle = ((i + 0.5) * CELL + dx, CELL / 2 - 1 + dy)
            canvas.text(middle, letter, font=font(self.font, CELL - 4), fill=self.ink, anchor="mm")
        return image


def plate(rng: random.Random) -> Plate:
    """Two to four capital letters."""
    text = "".join(rng.choice(string.ascii_uppercase) for _ in range(rng.randint(2, ROOM)))
    offsets = tuple((rng.uniform(-WANDER, WANDER), rng.uniform(-WANDER, WANDER)) for _ in text)
    return Plate(text, rng.choice(FONTS), rng.choice(INKS), offsets)
