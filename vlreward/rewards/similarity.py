"""How near is a free answer to a reference, by its words and their vectors?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rapidfuzz.distance import LCSseq

from vlreward.errors import DataError
from vlreward.models.text_encoder import load_encoder, load_token_table
from vlreward.registry import register
from vlreward.rewards.answers import Answered, normalize, references
from vlreward.rewards.transcripts import CJK
from vlreward.types import RewardOutput, Rollout

WORD = re.compile(rf"[{CJK}]|[^\W_{CJK}]+")
MAX_WORDS = 20_000
"""Words of an answer that are compared; the others only lengthen it."""


@register("rouge_l")
@dataclass(kw_only=True)
class RougeL(Answered):
    """ROUGE-L: F1 of the longest common subsequence of words, with the nearest of `target.answer`. In [0, 1].

    Words are runs of letters and digits without case, Chinese characters and Japanese kana one by one; no stemming.

    Source: Lin 2004; rouge_score, whose tokenizer drops all that is not ASCII.

    Known cheats: keywords in the right order without a sentence (recall is full, precision too: put a fluency or judge term beside
    it); padding (lowers precision); copying the question where it shares words with the reference (some credit, undefended).

    Example: {text: "<answer>the red cat sat</answer>", target: {answer: The cat sat down.}} -> 0.75
    """

    def one(self, rollout: Rollout) -> float:
        found = self.answer(rollout)
        return max(rouge_l(found or "", wanted) for wanted in references(rollout.sample.target))


def rouge_l(answer: str, wanted: str) -> float:
    """2 * longest common subsequence / words of both; 0 where there are none."""
    first, second = (WORD.findall(normalize(text)) for text in (answer, wanted))
    if not first or not second:
        return 0.0
    return 2 * LCSseq.similarity(first[:MAX_WORDS], second) / (len(first) + len(second))


@dataclass(kw_only=True)
class Embedded(Answered):
    """Base of rewards that compare vectors of the answer with those of each reference in one batch; the best reference counts."""

    model: str
    """A folder with a transformers model."""

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        scores = torch.zeros(len(rollouts), dtype=torch.float64)
        errors: list[str | None] = [None] * len(rollouts)
        pairs: list[tuple[int, str, str]] = []
        for i, rollout in enumerate(rollouts):
            try:
                options = references(rollout.sample.target)
            except DataError as error:
                errors[i] = str(error)
                continue
            answer = self.answer(rollout)
            if answer:
                pairs += [(i, answer, option) for option in options]
        for (i, _, _), score in zip(pairs, self.compare([pair[1:] for pair in pairs]), strict=True):
            scores[i] = max(float(scores[i]), min(1.0, score))
        return RewardOutput(scores=scores, errors=errors)

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """How near each answer is to its reference; what is below 0 counts as 0."""
        raise NotImplementedError(f"{type(self).__name__} must define compare")


@register("bmas")
@dataclass(kw_only=True)
class Bmas(Embedded):
    """Bidirectional maximum average similarity of the tokens of answer and `target.answer`. In [0, 1].

    Half of the mean over the answer's tokens of the largest cosine with a token of the reference, plus half of the same the other way
    round; a negative value counts as 0. Vectors are the input embeddings of the model in the folder `model` (for example that of the
    policy), so no network runs. Of several references the nearest counts.

    Source: Mixed-R1 (arXiv 2505.24164). Its abstract fixes 'bidirectional', 'max-average' and 'tokenizer embedding'; the table of
    input embeddings and the factor 1/2 are our reading.

    Known cheats: word order is not seen, so a shuffled or keyword answer scores like a sentence, and words may be repeated for free
    (not defended here: multiply with `repetition` and a length target, or use `bert_score`); padding with other words (lowers the
    answer's half).
    """

    def load(self, device: str) -> None:
        self._table = load_token_table(self.model)

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        vectors = {text: self._table.encode(text) for text in dict.fromkeys(text for pair in pairs for text in pair)}
        return [sum(best_matches(vectors[answer], vectors[wanted])) / 2 for answer, wanted in pairs]


@register("bert_score")
@dataclass(kw_only=True)
class BertScore(Embedded):
    """BERTScore: F1 of greedily matched contextual token vectors of answer and `target.answer`. In [0, 1].

    Precision is the mean over the answer's tokens of the largest cosine with a token of the reference, recall the same the other way
    round; special tokens do not take part, there is no idf weighting. `baseline` rescales: (F1 - baseline) / (1 - baseline). A negative
    value counts as 0, and of several references the nearest counts.

    Source: BERTScore, arXiv 1904.09675.

    Known cheats: fluent text on the subject that says something else (cosines of one model are all high: set `baseline` to the mean
    F1 of unrelated pairs); negation and numbers hardly count (use a judge or exact rewards for facts); text beyond the encoder's
    length is cut, the rest is free.
    """

    layer: int = -1
    """Hidden layer to take: 0 the embeddings, -1 the last."""
    baseline: float = 0.0

    def load(self, device: str) -> None:
        self._encoder = load_encoder(self.model, device)

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        vectors = dict(zip(texts, self._encoder.tokens(texts, self.layer), strict=True))
        scores = []
        for answer, wanted in pairs:
            precision, recall = best_matches(vectors[answer], vectors[wanted])
            f1 = 2 * precision * recall / (precision + recall) if precision > 0 and recall > 0 else 0.0
            scores.append((f1 - self.baseline) / (1 - self.baseline))
        return scores


def best_matches(answer_AD: torch.Tensor, wanted_WD: torch.Tensor) -> tuple[float, float]:
    """Mean largest cosine of each vector with one of the other side, both ways; 0 where a side is empty. Unit vectors."""
    if not len(answer_AD) or not len(wanted_WD):
        return 0.0, 0.0
    cosine_AW = answer_AD @ wanted_WD.T
    return float(cosine_AW.amax(1).mean()), float(cosine_AW.amax(0).mean())
