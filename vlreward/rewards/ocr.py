"""Is the wanted text in the picture, every glyph of it, and nothing else?"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from scipy.optimize import linear_sum_assignment

from vlreward.data.media import Clip, Picture
from vlreward.errors import ConfigError, DataError
from vlreward.models.ocr import Line, Reader
from vlreward.models.rapidocr_reader import RapidOcr
from vlreward.registry import register
from vlreward.rewards.base import Reward, explain
from vlreward.types import Mark, RewardOutput, Rollout

DOUBTED, CERTAIN = 3.0, 7.0
"""Log-odds of a character between which its certainty rises from 0 to 1: probabilities 0.953 and 0.9991. Measured on words in 16 fonts,
clean, blurred, noisy and tiny: characters printed right keep 0.98 of their worth, look-alikes that are still read as wanted keep 0.28."""

Glyphs = list[tuple[str, float]]
"""The characters of a word with their certainty in [0, 1]."""


@register("ocr_match")
@dataclass(kw_only=True)
class OcrMatch(Reward):
    """Similarity of the text read in the picture to `target.text`, glyph by glyph. In [0, 1].

    1 - (edit distance + doubt) / length of the longer one, where a character that was read as wanted is doubted by 1 - its certainty.
    A recogniser that knows the language reads HELLO where HELL0 is drawn, but is a little less sure of that one character: its
    certainty rises with the log-odds of what it took the character for, from 0 at a probability of 0.953 to 1 at 0.9991.
    Both sides are NFKC-normalised and compared without spaces, since readers cut words differently. `order: lines` compares in reading
    order; `free` matches words one to one whatever their order (posters), an unmatched word counting in full. Several `readers` vote
    by the lowest score. An empty `target.text` asks for a picture without text. A clip is judged by its middle frame. What was read,
    and which characters were doubtful, stands in the note.

    Source: the OCR reward of Flow-GRPO (arXiv 2505.05470), which divides by the target's length, accepts any text around the target,
    ignores case and believes the best reading; GlyphPrinter's complaint about single glyphs; the certainty is ours. Reading by PP-OCR.

    Known cheats: extra text around the target (lowers the score here: the distance is symmetric); repeating the target (same);
    look-alike glyphs that the recogniser mends, such as HELL0 for HELLO (doubted, so most lose a good part of their character; an O
    drawn as 0 in some sans-serif fonts loses nothing); strokes that are missing or broken without making another letter (half of
    these stay undetected, and so does speckle: add a second reader, and a judge of how the picture looks); illegible scribble beside
    the target (not seen below `at_least` of the reader); writing text instead of drawing what was asked (put a CLIP or detector term
    beside it). Too low rather than too high: one mirrored letter can make a whole line illegible, text that stands on its head is read
    as nonsense, and I, l, 1 and | without context are not told apart even where they are right.
    """

    readers: tuple[Reader, ...] = field(default_factory=lambda: (RapidOcr(),))
    order: Literal["lines", "free"] = "lines"
    case: bool = True
    """False: upper and lower case count as the same."""
    needs = ("visual", "target.text")

    def __post_init__(self):
        if not self.readers:
            raise ConfigError("is empty, expected at least one reader", "readers")

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        errors: list[str | None] = [None] * len(rollouts)
        pictures: dict[int, Picture] = {}
        for i, rollout in enumerate(rollouts):
            try:
                pictures[i] = _judged(rollout)
            except DataError as error:
                errors[i] = str(error)
        readings = [dict(zip(pictures, _read(reader, list(pictures.values())), strict=True)) for reader in self.readers]
        output = RewardOutput(scores=torch.full((len(rollouts),), float("nan"), dtype=torch.float64), errors=errors)
        votes_KB = output.scores.repeat(len(self.readers), 1)
        for i in pictures:
            found = [reading[i] for reading in readings]
            errors[i] = next((lines for lines in found if isinstance(lines, str)), None)
            if errors[i] is not None:
                continue
            read = [lines for lines in found if not isinstance(lines, str)]
            votes = [glyph_similarity(lines, rollouts[i].sample.target["text"], self.order, self.case) for lines in read]
            votes_KB[:, i] = torch.tensor(votes, dtype=torch.float64)
            lowest = read[votes.index(min(votes))]
            output.notes[i] = _note(lowest, self.case)
            output.marks[i] = [Mark(box=line.box, role="found", label=line.text) for line in lowest]
        output.scores = votes_KB.amin(0)
        if len(self.readers) > 1:
            output.parts = {f"{k}_{reader.kind}": votes_KB[k] for k, reader in enumerate(self.readers)}
        return output


def text_similarity(read: str, wanted: str, order: Literal["lines", "free"] = "lines", case: bool = True) -> float:
    """1 - edit distance / longer length, without spaces, in order or with words matched one to one; 1 where both are empty."""
    return similarity(_words([Line(read, (0, 0, 0, 0), 1.0)], case), wanted, order, case)


def glyph_similarity(lines: Sequence[Line], wanted: str, order: Literal["lines", "free"] = "lines", case: bool = True) -> float:
    """`text_similarity` of lines in reading order, less the doubt about characters that were read as wanted. In [0, 1]."""
    return similarity(_words(lines, case), wanted, order, case)


def similarity(read: Sequence[Glyphs], wanted: str, order: Literal["lines", "free"], case: bool) -> float:
    """1 - (edit distance + doubt) / longer length of words read, in order or matched one to one. In [0, 1]."""
    targets = [_plain(word, case) for word in wanted.split()]
    if order == "lines":
        read, targets = [[glyph for word in read for glyph in word]], ["".join(targets)]
    longer = max(sum(map(len, read)), sum(map(len, targets)))
    if longer == 0:
        return 1.0
    texts = ["".join(character for character, _ in word) for word in read]
    kept = np.array([[max(len(a), len(b)) - Levenshtein.distance(a, b) for b in targets] for a in texts], dtype=np.float64)
    rows, columns = linear_sum_assignment(-kept.reshape(len(texts), len(targets)))
    total = sum(kept[i, j] - _doubt(read[i], texts[i], targets[j]) for i, j in zip(rows, columns))
    return max(0.0, float(total) / longer)


def certainty(probability: float) -> float:
    """How far a recogniser's probability of one character is to be believed: its log-odds, from 0 at DOUBTED to 1 at CERTAIN."""
    odds = math.log(max(probability, 1e-9) / max(1 - probability, 1e-9))
    return min(1.0, max(0.0, (odds - DOUBTED) / (CERTAIN - DOUBTED)))


def _doubt(word: Glyphs, text: str, target: str) -> float:
    blocks = Levenshtein.editops(text, target).as_matching_blocks()
    return sum(1 - sure for block in blocks for _, sure in word[block.a : block.a + block.size])


def _words(lines: Sequence[Line], case: bool) -> list[Glyphs]:
    words: list[Glyphs] = []
    for line in lines:
        words.append([])
        for i, character in enumerate(line.text):
            if character.isspace():
                words.append([])
            plain = _plain(character, case)
            sure = certainty(_probability(line, i, plain, case)) if line.options else 1.0
            words[-1] += [(part, sure) for part in plain if not part.isspace()]
    return [word for word in words if word]


def _probability(line: Line, place: int, plain: str, case: bool) -> float:
    return sum(share for option, share in line.options[place].items() if _plain(option, case) == plain)


def _plain(text: str, case: bool) -> str:
    text = unicodedata.normalize("NFKC", text)
    return text if case else unicodedata.normalize("NFKC", text.casefold())


def _read(reader: Reader, pictures: Sequence[Picture]) -> Sequence[list[Line] | str]:
    """What a reader finds in each picture, or why it failed there; after a failure they are read one by one."""
    try:
        return reader.read(pictures)
    except Exception as failure:
        return [explain(failure)] if len(pictures) == 1 else [one for picture in pictures for one in _read(reader, [picture])]


def _judged(rollout: Rollout) -> Picture:
    """The picture to read, decoded. Raises DataError where it or the target is broken."""
    wanted = rollout.sample.target["text"]
    if not isinstance(wanted, str):
        raise DataError(f"target.text is {wanted!r}, expected a text")
    visual = rollout.visual
    assert visual is not None, "ocr_match needs a visual"
    picture = visual.pictures[len(visual.tensor) // 2] if isinstance(visual, Clip) else visual
    picture.pil  # noqa: B018 - decodes here, so that a broken file costs its own row only
    return picture


def _note(lines: Sequence[Line], case: bool) -> str:
    text = " ".join(line.text for line in lines)
    unsure = [
        f"{character} {probability:.3f}"
        for line in lines
        for i, character in enumerate(line.text if line.options else "")
        if not character.isspace() and certainty(probability := _probability(line, i, _plain(character, case), case)) < 1
    ]
    doubts = f"; unsure of {', '.join(unsure[:5])}" if unsure else ""
    return f"read {text[:200]!r}{doubts}" if text else "read nothing"
