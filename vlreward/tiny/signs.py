"""Printed words and digits in real fonts: pictures whose text is known."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vlreward.errors import DataError

FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSansMono", "STIXGeneral")
WORDS = (
    "apple bread chair delta eagle flute grape house index jelly knife lemon mango night ocean piano queen river stone table "
    "uncle violin window yellow zebra open closed exit market museum garden bridge station library coffee bakery hotel"
).split()
INKS = ("black", "navy", "darkred", "darkgreen")


@dataclass(frozen=True)
class Sign:
    """Lines of text on paper; `text` is the transcription, lines joined by a newline."""

    text: str
    font: str
    ink: str
    points: int

    def picture(self) -> Image.Image:
        """The sign as RGB, as large as its text needs."""
        face = font(self.font, self.points)
        probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
        left, top, right, bottom = probe.multiline_textbbox((0, 0), self.text, font=face, spacing=self.points // 2)
        pad = self.points
        image = Image.new("RGB", (int(right - left) + 2 * pad, int(bottom - top) + 2 * pad), "white")
        ImageDraw.Draw(image).multiline_text((pad - left, pad - top), self.text, font=face, fill=self.ink, spacing=self.points // 2)
        return image


def sign(rng: random.Random, lines: int | None = None) -> Sign:
    """One to three lines of words and numbers in a random font, ink and size."""
    count = lines or rng.randint(1, 3)
    text = "\n".join(" ".join(_word(rng) for _ in range(rng.randint(1, 3))) for _ in range(count))
    return Sign(text, rng.choice(FONTS), rng.choice(INKS), rng.choice((24, 28, 32)))


def _word(rng: random.Random) -> str:
    word = rng.choice(WORDS)
    return rng.choice((word, word.upper(), word.capitalize(), str(rng.randint(10, 9999))))


@cache
def font(name: str, points: int) -> ImageFont.FreeTypeFont:
    """A font that comes with matplotlib."""
    try:
        import matplotlib
    except ImportError as error:
        raise DataError("the tiny world's fonts come with matplotlib: pip install 'vlreward[chart]'") from error
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), points)
