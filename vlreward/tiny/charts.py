"""Small bar, line and pie charts whose table is known."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

from PIL import Image

from vlreward.errors import DataError
from vlreward.tiny.scene import COLORS
from vlreward.tiny.signs import WORDS

KINDS = ("bar", "line", "pie")


@dataclass(frozen=True)
class Chart:
    """A chart of one series."""

    kind: str
    title: str
    labels: tuple[str, ...]
    values: tuple[int, ...]
    color: str

    @property
    def table(self) -> str:
        """The data in DePlot's notation: rows by newline, cells by ' | '."""
        rows = [f"{label} | {value}" for label, value in zip(self.labels, self.values, strict=True)]
        return "\n".join([f"title | {self.title}", "label | value", *rows])

    @property
    def question(self) -> tuple[str, str]:
        """A question that the chart answers, and the answer."""
        best = max(range(len(self.values)), key=lambda i: self.values[i])
        return "Which label has the largest value?", self.labels[best]

    def picture(self, width: int = 320, height: int = 240) -> Image.Image:
        """The chart as RGB."""
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise DataError("charts need the extra 'chart': pip install 'vlreward[chart]'") from error
        figure = Figure(figsize=(width / 100, height / 100), dpi=100, layout="constrained")
        axes = figure.subplots()
        if self.kind == "pie":
            axes.pie(self.values, labels=[f"{label} {value}" for label, value in zip(self.labels, self.values, strict=True)])
        elif self.kind == "bar":
            axes.bar(self.labels, self.values, color=[c / 255 for c in COLORS[self.color]])
        else:
            axes.plot(self.labels, self.values, marker="o", color=[c / 255 for c in COLORS[self.color]])
            axes.set_ylim(0, max(self.values) * 1.1)
        axes.set_title(self.title)
        stream = io.BytesIO()
        FigureCanvasAgg(figure).print_png(stream)
        return Image.open(stream).convert("RGB")


def chart(rng: random.Random) -> Chart:
    """Three to five labels with different values from 5 to 95."""
    count = rng.randint(3, 5)
    labels = tuple(word[:6] for word in rng.sample(WORDS[:20], count))
    return Chart(
        rng.choice(KINDS), rng.choice(WORDS).capitalize(), labels, tuple(rng.sample(range(5, 96), count)), rng.choice(tuple(COLORS))
    )
