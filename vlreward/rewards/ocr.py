"""Is the wanted text in the picture, and nothing else?"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal

import numpy as np
from rapidfuzz.distance import Levenshtein
from scipy.optimize import linear_sum_assignment

from vlreward.data.media import Clip
from vlreward.errors import DataError
from vlreward.models.ocr import Line, load_reader
from vlreward.registry import register
from vlreward.rewards.answers import normalize
from vlreward.rewards.base import Reward
from vlreward.types import Mark, RewardOutput, Rollout


@register("ocr_match")
@dataclass(kw_only=True)
class OcrMatch(Reward):
    """Similarity of the text read in the picture to `target.text`: 1 - edit distance / length of the longer one. In [0, 1].

    Both sides are NFKC-normalised with single spaces, and compared without spaces, since readers cut words differently. `order: lines`
    compares in reading order; `free` matches words one to one whatever their order (posters), an unmatched word counting in full.
    An empty `target.text` asks for a picture without text. A clip is judged by its middle frame. What was read stands in the note.

    Source: the OCR reward of Flow-GRPO (arXiv 2505.05470), which divides by the target's length, accepts any text around the target
    and ignores case; reading by RapidOCR with PP-OCR models.

    Known cheats: extra text around the target (lowers the score here: the distance is symmetric); repeating the target (same);
    glyph errors that the recogniser's language prior mends, such as HELL0 read as HELLO (not defended with one recogniser: hold out
    another); writing text instead of drawing what was asked (put a CLIP or detector term beside it).
    """

    order: Literal["lines", "free"] = "lines"
    case: bool = True
    """False: upper and lower case count as the same."""
    needs = ("visual", "target.text")

    def load(self, device: str) -> None:
        self._reader = load_reader()

    def batch(self, rollouts: list[Rollout]) -> RewardOutput:
        self._marks: list[list[Mark]] = []
        self._read: dict[int, list[Line]] = {}
        output = super().batch(rollouts)
        output.marks = self._marks
        return output

    def one(self, rollout: Rollout) -> tuple[float, str]:
        self._marks.append([])
        wanted = rollout.sample.target["text"]
        if not isinstance(wanted, str):
            raise DataError(f"target.text is {wanted!r}, expected a text")
        visual = rollout.visual
        picture = visual.pictures[len(visual.tensor) // 2] if isinstance(visual, Clip) else visual
        assert picture is not None, "ocr_match needs a visual"
        if id(picture) not in self._read:  # rows of a batch often share their picture
            self._read[id(picture)] = self._reader.read(picture)
        lines = self._read[id(picture)]
        self._marks[-1] = [Mark(box=line.box, role="found", label=line.text) for line in lines]
        text = " ".join(line.text for line in lines)
        return text_similarity(text, wanted, self.order, self.case), f"read {text[:200]!r}" if text else "read nothing"


def text_similarity(read: str, wanted: str, order: Literal["lines", "free"] = "lines", case: bool = True) -> float:
    """1 - edit distance / longer length, without spaces, in order or with words matched one to one; 1 where both are empty."""
    a, b = (_words(text, case) for text in (read, wanted))
    longer = max(sum(map(len, a)), sum(map(len, b)))
    if longer == 0:
        return 1.0
    if order == "lines":
        return 1 - Levenshtein.distance("".join(a), "".join(b)) / longer
    kept = np.array([[max(len(x), len(y)) - Levenshtein.distance(x, y) for y in b] for x in a], dtype=np.float64).reshape(len(a), len(b))
    rows, columns = linear_sum_assignment(-kept)
    return float(kept[rows, columns].sum()) / longer


def _words(text: str, case: bool) -> list[str]:
    words = unicodedata.normalize("NFKC", text).split()
    return words if case else [normalize(word) for word in words]
