"""How is a text worded: does it repeat itself, in which language is it?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from vlreward.config import Count
from vlreward.errors import ConfigError, DataError
from vlreward.registry import register
from vlreward.rewards.base import Reward
from vlreward.rewards.transcripts import words
from vlreward.types import Rollout

TAG = re.compile(r"</?\w{1,20}>")
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|https?://\S+", re.DOTALL)
SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]*\n*|[.!?。！？\n]+")
LETTER = re.compile(r"[^\W\d_]")
SHORT = 25
"""Letters below which a sentence is joined to the next, since they tell little of their language; CJK ones count threefold."""
DENSE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@register("repetition")
@dataclass(kw_only=True)
class Repetition(Reward):
    """Minus the share of `n`-grams that stood in the text before. In [-1, 0].

    0 where every n-gram is new, and for texts shorter than `n`. `unit: words` as in `word_accuracy` (whitespace, CJK characters one by
    one), without case; `characters` also sees repetition within a word and in texts without spaces.

    Source: the repetition penalty of Demystifying Long Chain-of-Thought (arXiv 2502.03373), as in open-r1, VLM-R1 and ms-swift.

    Known cheats: saying nothing (0, the top: it is a penalty, so add a reward for being right); one long word over and over without
    spaces (`unit: characters`); small variations that make each n-gram new (lower `n`).

    Example: {keys: {n: 2}, text: "a red box a red box"} -> -0.4
    """

    n: Count = 3
    unit: Literal["words", "characters"] = "words"
    needs = ("text",)
    bounds = (-1.0, 0.0)

    def one(self, rollout: Rollout) -> float:
        text = (rollout.text or "").casefold()
        pieces = words(text) if self.unit == "words" else list("".join(text.split()))
        count = len(pieces) - self.n + 1
        return len({tuple(pieces[i : i + self.n]) for i in range(count)}) / count - 1 if count > 0 else 0.0


@register("language")
@dataclass(kw_only=True)
class Language(Reward):
    """Share of the text that is in the wanted language, counted in letters. In [0, 1].

    Wanted is `language`, or the sample's `target.language` where it has one: two letters of ISO 639-1, such as en, de or zh. The text is
    cut into sentences, short ones joined to the next, and each is told apart by py3langid among `among` (140 languages by default).
    Tags, code, formulas and addresses are left out; a text without letters besides is worth 0.

    Source: the language consistency reward of DeepSeek-R1 (arXiv 2501.12948); py3langid, the maintained langid.py.

    Known cheats: a few words in another language within a sentence (not seen); hiding text in code fences or formulas (left out of
    account, not rewarded); nonsense in the right language (1: it says nothing of content); texts of a few words are hardly told apart
    (narrow `among` to the languages that you expect).

    Example: {keys: {language: en, among: [en, de]}, text: "The red circle is to the left of the blue square."} -> 1
    """

    language: str = ""
    among: tuple[str, ...] = ()
    needs = ("text",)

    def load(self, device: str) -> None:
        self._identifier = _identifier(self.among)
        if self.language and self.language not in self._identifier.nb_classes:
            known = ", ".join(sorted(set(self._identifier.nb_classes)))
            raise ConfigError(f"is {self.language!r}, expected one of {known}", "language")

    def one(self, rollout: Rollout) -> tuple[float, str]:
        wanted = rollout.sample.target.get("language", self.language)
        if wanted not in self._identifier.nb_classes:
            raise DataError(f"target.language is {wanted!r}, expected two letters of a language such as en (or set the key `language`)")
        found: dict[str, int] = {}
        for sentence in sentences(rollout.text or ""):
            language = self._identifier.classify(sentence)[0]
            found[language] = found.get(language, 0) + len(LETTER.findall(sentence))
        total = sum(found.values())
        return (found.get(wanted, 0) / total if total else 0.0), ", ".join(f"{name} {count / total:.0%}" for name, count in found.items())


def sentences(text: str) -> list[str]:
    """The prose of a text in pieces of a sentence or more, each with enough letters to tell a language by; the rest joins the last."""
    pieces, piece = [], ""
    for sentence in SENTENCE.findall(CODE.sub(" ", TAG.sub(" ", text))):
        piece += sentence
        if len(LETTER.findall(piece)) + 2 * len(DENSE.findall(piece)) >= SHORT:
            pieces.append(piece)
            piece = ""
    if pieces:
        pieces[-1] += piece
    elif LETTER.search(piece):
        pieces.append(piece)
    return pieces


@cache
def _identifier(among: tuple[str, ...]) -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ConfigError("reward 'language' needs the extra 'text': pip install 'vlreward[text]'") from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    try:
        identifier.set_languages(list(among) or None)
    except ValueError as error:
        raise ConfigError(f"is {list(among)}: {error}", "among") from error
    return identifier
