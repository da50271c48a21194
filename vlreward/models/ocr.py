"""Reading text in pictures: the interface that rewards use, and the reading order of what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from vlreward.data.media import Picture


@dataclass(frozen=True)
class Line:
    """One piece of text: its words, xyxy box in pixels of the picture, the recogniser's confidence in [0, 1]."""

    text: str
    box: tuple[float, float, float, float]
    score: float
    options: tuple[Mapping[str, float], ...] = ()
    """Per character of `text`, what the recogniser took it for, with probabilities; empty where it does not tell."""


@dataclass(kw_only=True)
class Reader:
    """Base of all readers."""

    family: ClassVar[str] = "readers"
    kind: ClassVar[str]

    def load(self, device: str) -> None:
        """Bring weights into memory; called once before the first `read`."""

    def read(self, pictures: Sequence[Picture]) -> list[list[Line]]:
        """The text of each picture in reading order; what a picture gives does not depend on the others."""
        raise NotImplementedError(f"{type(self).__name__} must define read")


def reading_order(lines: Sequence[Line]) -> list[Line]:
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
