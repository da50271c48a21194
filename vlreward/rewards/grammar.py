"""Is a text grammatical?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from vlreward.config import Bound
from vlreward.errors import ConfigError
from vlreward.models.text_classifier import load_classifier
from vlreward.registry import register
from vlreward.rewards.answers import final_answer
from vlreward.rewards.base import Reward
from vlreward.types import RewardOutput, Rollout


@register("grammaticality")
@dataclass(kw_only=True)
class Grammaticality(Reward):
    """Probability that a caption is grammatical, by a classifier of texts. In [0, 1].

    `model` is a folder with a transformers sequence classifier, such as one trained on CoLA, and `label` its class for good sentences.
    Judged is the inside of the last `<answer>...</answer>`, or the whole text where there is none; an empty one is worth 0.

    Source: the grammar reward of CLIP-Caption-Reward, arXiv 2205.13115, whose classifier is a head on CLIP's text encoder, trained against
    captions with repeated, removed, inserted and swapped words; `scripts/build_grammar.py` trains one of its own on such captions.

    Known cheats: any well-formed sentence whatever the picture (1 by design: it stands beside `clip_score`, whose keyword lists and
    stutter it holds back); sentences of a kind that the classifier never saw broken (train it on what the policy writes); text beyond
    the classifier's length is cut, the rest is free (add a length reward).
    """

    model: str = "assets/tiny-grammar"
    label: Annotated[int, Bound(0)] = 1
    needs = ("text",)

    def load(self, device: str) -> None:
        self._classifier = load_classifier(self.model, device)
        labels = self._classifier.model.config.num_labels
        if self.label >= labels:
            raise ConfigError(f"is {self.label}, but the classifier in {self.model!r} has labels 0 to {labels - 1}", "label")

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        texts = [_caption(rollout.text or "") for rollout in rollouts]
        scores = self._classifier.probabilities(texts)[:, self.label]
        for row, text in enumerate(texts):
            if not text:
                scores[row] = 0.0
        return RewardOutput(scores=scores)


def _caption(text: str) -> str:
    answer = final_answer(text)
    return (answer[0] if answer else text).strip()
