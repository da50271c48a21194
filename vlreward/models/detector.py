"""Finding named objects in pictures: the interface that rewards use, whatever network is behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from vlreward.data.media import Picture


@dataclass(frozen=True)
class Detection:
    """One found object: its label, color ('' where the detector does not tell), xyxy box in pixels of the picture, confidence in [0, 1]."""

    label: str
    color: str
    box: tuple[float, float, float, float]
    score: float
    mask: np.ndarray | None = field(default=None, compare=False, repr=False)
    """[H,W] bool over the whole picture, from detectors that segment."""


@dataclass(kw_only=True)
class Detector:
    """Base of all detectors."""

    family: ClassVar[str] = "detectors"

    def load(self, device: str) -> None:
        """Bring weights into memory; called once before the first `detect`."""

    def detect(self, pictures: Sequence[Picture], labels: Sequence[Sequence[str]]) -> list[list[Detection]]:
        """What is in each picture.

        `labels[i]` names the kinds of objects, without colours, that are asked for in picture i; an open-vocabulary detector looks for
        these, and one with a fixed vocabulary returns everything it knows, so that surplus objects are seen too.
        """
        raise NotImplementedError(f"{type(self).__name__} must define detect")
