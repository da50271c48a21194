"""Reading text in pictures, loaded once per process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from vlreward.data.media import Picture
from vlreward.errors import ConfigError

MIN_SIDE = 64
"""Smaller pictures are enlarged to this before reading; the detector was not trained on thumbnails."""


@dataclass(frozen=True)
class Line:
    """One piece of text: its words, xyxy box in pixels of the picture, the recogniser's confidence in [0, 1]."""

    text: str
    box: tuple[float, float, float, float]
    score: float


class Reader:
    """RapidOCR (PP-OCR models that its wheel carries; nothing is downloaded)."""

    def __init__(self, engine: Any):
        self._engine = engine

    def read(self, picture: Picture) -> list[Line]:
        """The picture's text in reading order: rows by overlap in height, then left to right."""
        image = picture.pil
        zoom = max(1, -(-MIN_SIDE // min(image.size)))
        if zoom > 1:
            image = image.resize((image.width * zoom, image.height * zoom), Image.Resampling.LANCZOS)
        result = self._engine(np.asarray(image)[:, :, ::-1])
        if result.txts is None:
            return []
        lines = []
        for text, corners, score in zip(result.txts, result.boxes, result.scores, strict=True):
            x, y = np.asarray(corners)[:, 0] / zoom, np.asarray(corners)[:, 1] / zoom
            lines.append(Line(str(text), (float(x.min()), float(y.min()), float(x.max()), float(y.max())), float(score)))
        return reading_order(lines)


def reading_order(lines: list[Line]) -> list[Line]:
    """Rows of lines that overlap by more than half of the lower one's height, top to bottom, each left to right."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda piece: (piece.box[1] + piece.box[3]) / 2):
        top, bottom = line.box[1], line.box[3]
        last = rows[-1][-1] if rows else None
        overlap = min(bottom, last.box[3]) - max(top, last.box[1]) if last else 0
        if last and overlap > 0.5 * min(bottom - top, last.box[3] - last.box[1]):
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda piece: piece.box[0])]


@cache
def load_reader() -> Reader:
    """The shared reader. Raises ConfigError without the extra 'ocr'."""
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise ConfigError("reward 'ocr_match' needs the extra 'ocr': pip install 'vlreward[ocr]'") from error
    return Reader(RapidOCR(params={"Global.log_level": "error"}))
