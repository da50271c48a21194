"""How well does a written transcription agree with what is really written in the picture?"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import LCSseq, Levenshtein

from vlreward.config import Fraction
from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.answers import Answered, normalize, references
from vlreward.types import Rollout

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
WORD = re.compile(rf"[{CJK}]|[^\s{CJK}]+")


def words(text: str) -> list[str]:
    """Words parted by whitespace, with punctuation left on them; every Chinese character and Japanese kana is a word of its own."""
    return WORD.findall(text)


@dataclass(kw_only=True)
class Transcript(Answered):
    """Base of rewards that compare the answer with `target.text`, both NFKC-normalised with single spaces."""

    case: bool = True
    """False: upper and lower case count as the same."""
    needs = ("text", "target.text")

    def one(self, rollout: Rollout) -> float | tuple[float, str]:
        wanted = rollout.sample.target["text"]
        if not isinstance(wanted, str):
            raise DataError(f"target.text is {wanted!r}, expected a text")
        answer = self.answer(rollout)
        return (0.0, "no <answer>...</answer>") if answer is None else self.compare(self.plain(answer), self.plain(wanted))

    def plain(self, text: str) -> str:
        """The text as it is compared."""
        return " ".join(unicodedata.normalize("NFKC", text).split()) if self.case else normalize(text)

    def compare(self, answer: str, wanted: str) -> float:
        """The score of one normalised answer, in [0, 1]."""
        raise NotImplementedError(f"{type(self).__name__} must define compare")


@register("character_accuracy")
@dataclass(kw_only=True)
class CharacterAccuracy(Transcript):
    """1 - the character error rate: edit distance / characters of `target.text`, at most 1. In [0, 1].

    Spaces count, runs of them as one. An empty target asks for an empty answer and gives 1 or 0.

    Source: the usual character error rate (jiwer, torchmetrics), which has no upper end of its own.

    Known cheats: writing the text twice, or everything the picture could say (insertions count, so 0); an empty answer (0); several
    answers (the last counts).

    Example: {text: "<answer>HELL0</answer>", target: {text: HELLO}} -> 0.8
    """

    def compare(self, answer: str, wanted: str) -> float:
        return 1 - error_rate(answer, wanted)


@register("word_accuracy")
@dataclass(kw_only=True)
class WordAccuracy(Transcript):
    """1 - the word error rate: edit distance in words / words of `target.text`, at most 1. In [0, 1].

    Words are parted by whitespace and keep their punctuation; every Chinese character and Japanese kana is a word. An empty target
    asks for an empty answer and gives 1 or 0.

    Source: the usual word error rate (jiwer, torchmetrics), which has no upper end of its own.

    Known cheats: writing the text twice (insertions count, so 0); an empty answer (0); running words together (each is wrong).

    Example: {text: "<answer>open at nine daily</answer>", target: {text: open at ten daily}} -> 0.75
    """

    def compare(self, answer: str, wanted: str) -> float:
        return 1 - error_rate(words(answer), words(wanted))


@register("word_f1")
@dataclass(kw_only=True)
class WordF1(Transcript):
    """F1 of the words of the answer against those of `target.text`. In [0, 1].

    `order: lines` counts words in common order (longest common subsequence), `free` counts them wherever they stand, each as often as
    it is wanted. Words as in `word_accuracy`. 1 where both are empty.

    Source: word-level F1 as in TextAtlasEval and, in order, ROUGE-L (Lin 2004).

    Known cheats: listing many words (lowers precision); repeating words (each counts once); with `free`, a shuffled text (1 by
    design: use `lines` where order matters).

    Example: {text: "<answer>nine open</answer>", target: {text: open nine}} -> 0.5
    """

    order: Literal["lines", "free"] = "lines"

    def compare(self, answer: str, wanted: str) -> float:
        return word_f1(words(answer), words(wanted), self.order)


@register("transcript_match")
@dataclass(kw_only=True)
class TranscriptMatch(Transcript):
    """1 if the answer equals `target.text` after NFKC and with single spaces, else 0.

    Source: exact match, as text recognition benchmarks count it.

    Known cheats: none known; it is sparse, so put `character_accuracy` beside it.

    Example: {text: "<answer>OPEN  24</answer>", target: {text: OPEN 24}} -> 1
    """

    def compare(self, answer: str, wanted: str) -> float:
        return float(answer == wanted)


@register("anls")
@dataclass(kw_only=True)
class Anls(Answered):
    """Edit similarity of the answer to the nearest of `target.answer`, 0 below `at_least`. In [0, 1].

    1 - edit distance / length of the longer one, after NFKC, case folding and whitespace; a similarity that does not exceed `at_least`
    is 0. Without a reference (an empty `target.answer`) the data are broken.

    Source: ANLS, average normalised Levenshtein similarity, of ST-VQA (arXiv 1905.13648) and DocVQA.

    Known cheats: naming several candidates (the longer one's length divides); an empty answer (0).

    Example: {text: "<answer>Pariss</answer>", target: {answer: [Paris, Paris France]}} -> 0.833
    """

    at_least: Fraction = 0.5

    def one(self, rollout: Rollout) -> tuple[float, str]:
        options = [normalize(option) for option in references(rollout.sample.target)]
        found = self.answer(rollout)
        if found is None:
            return 0.0, "no <answer>...</answer>"
        best = max(options, key=lambda option: edit_similarity(normalize(found), option))
        score = edit_similarity(normalize(found), best)
        return (score if score > self.at_least else 0.0), f"answered {found[:80]!r}, nearest {best!r}"


def error_rate(answer: str | list[str], wanted: str | list[str]) -> float:
    """Edit distance / length of what was wanted, at most 1; of an empty reference 0 or 1."""
    if not wanted:
        return float(bool(answer))
    return min(1.0, Levenshtein.distance(answer, wanted, score_cutoff=len(wanted)) / len(wanted))


def edit_similarity(first: str, second: str) -> float:
    """1 - edit distance / length of the longer one; 1 where both are empty."""
    return Levenshtein.normalized_similarity(first, second)


def word_f1(answer: list[str], wanted: list[str], order: Literal["lines", "free"] = "lines") -> float:
    """2 * words in common / words of both; 1 where both are empty."""
    if not answer and not wanted:
        return 1.0
    common = LCSseq.similarity(answer, wanted) if order == "lines" else (Counter(answer) & Counter(wanted)).total()
    return 2 * common / (len(answer) + len(wanted))
