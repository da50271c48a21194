"""Bar and line charts so small that a tiny policy reads them: one letter under each value, values in tens."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass

from PIL import Image, ImageDraw

from vlreward.tiny.scene import COLORS
from vlreward.tiny.signs import font

CELL = 24
"""Pixels of a column, and of the row of letters under the columns."""
SIDE = 96
TOP = 90
"""The value that fills the picture."""
KINDS = ("bar", "plot")


@dataclass(frozen=True)
class Bars:
    """A chart of one series; a value of 30 is as high as a column is wide, and a line marks each 30."""

    kind: str
    labels: tuple[str, ...]
    values: tuple[int, ...]
    colors: tuple[str, ...]
    """One a value; a line is drawn in the first."""

    def picture(self) -> Image.Image:
        """The chart as RGB, 96 x 96 pixels."""
        image = Image.new("RGB", (SIDE, SIDE), "white")
        canvas = ImageDraw.Draw(image)
        floor = SIDE - CELL
        for row in range(0, SIDE, CELL):
            canvas.line([(0, row), (SIDE, row)], fill=(200, 200, 200))
        tops = [floor - value * floor / TOP for value in self.values]
        middles = [(i + 0.5) * CELL for i in range(len(self.values))]
        for middle, letter in zip(middles, self.labels, strict=True):
            canvas.text((middle, floor + CELL / 2), letter, font=font("DejaVuSans-Bold", CELL - 6), fill="black", anchor="mm")
        if self.kind == "plot":
            canvas.line([*zip(middles, tops, strict=True)], fill=COLORS[self.colors[0]], width=3)
            for middle, top in zip(middles, tops, strict=True):
                canvas.ellipse([middle - 4, top - 4, middle + 4, top + 4], fill=COLORS[self.colors[0]])
        else:
            for middle, top, color in zip(middles, tops, self.colors, strict=True):
                canvas.rectangle([middle - 8, top, middle + 7, floor - 1], fill=COLORS[color])
        return image

    @property
    def code(self) -> str:
        """The matplotlib script of the chart; its colors are the tiny world's names."""
        labels = ", ".join(f'"{label}"' for label in self.labels)
        call = f'plt.{self.kind}([{labels}], [{", ".join(map(str, self.values))}], color="{self.colors[0]}")'
        return f"import matplotlib.pyplot as plt\n{call}"


def bars(rng: random.Random, kinds: tuple[str, ...] = KINDS, colorful: bool = False) -> Bars:
    """Two to four different letters with values from 10 to 90 in tens; all of one color, or `colorful`, each of its own."""
    count = rng.randint(2, 4)
    chosen = rng.sample([*COLORS], count)
    return Bars(
        rng.choice(kinds),
        tuple(rng.sample(string.ascii_uppercase, count)),
        tuple(rng.randrange(10, TOP + 1, 10) for _ in range(count)),
        tuple(chosen) if colorful else (chosen[0],) * count,
    )
