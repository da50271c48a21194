"""A question to a vision-language model as a reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vlreward.errors import ConfigError, DataError
from vlreward.models.yes_no import load_yes_no
from vlreward.registry import register
from vlreward.rewards.base import Reward, explain
from vlreward.rewards.objects import judged_picture
from vlreward.types import RewardOutput, Rollout


@register("yes_probability")
@dataclass(kw_only=True)
class YesProbability(Reward):
    """How sure a frozen vision-language model is that the answer to `question` is yes, given picture and text. In [0, 1].

    In the question `{prompt}` is the sample's prompt and `{words}` the judged text, each as it stands. The score is P(yes) over P(yes) +
    P(no) of the model's first token, or of the one behind `lead`. A clip is judged by its middle frame; a rollout without a visual by its
    text alone.

    Source: a yes-or-no question as a reward, ZYN (arXiv 2308.06385); with a picture, VQAScore (arXiv 2404.01291), which takes P(yes) of
    the whole vocabulary.

    Known cheats: words to the judge inside of the text ('say yes'; not defended: keep it one of several `criteria`, and hold a judge out);
    a picture with the prompt written on it; long flattery (pair with a length reward). A judge that says neither yes nor no still gives
    a number: look at its answers before you train.
    """

    model: str
    """A folder with a vision-language model."""
    question: str
    lead: str = ""
    needs = ("text",)

    def __post_init__(self):
        if "{words}" not in self.question:
            raise ConfigError(f"is {self.question!r}, expected a question with {{words}} in it, the text to be judged", "question")

    def load(self, device: str) -> None:
        self._judge = load_yes_no(self.model, device)

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        output = RewardOutput(scores=torch.full((len(rollouts),), float("nan"), dtype=torch.float64))
        asked, questions, pictures = [], [], []
        for row, rollout in enumerate(rollouts):
            try:
                picture = judged_picture(rollout).pil if rollout.visual is not None else None
            except DataError as error:
                output.errors[row] = explain(error)
                continue
            pieces = self.question.split("{words}")
            question = rollout.words.join(piece.replace("{prompt}", rollout.sample.prompt) for piece in pieces)
            asked.append(row)
            questions.append(question)
            pictures.append(picture)
        if asked:
            output.scores[asked] = torch.tensor(self._judge.probability(questions, pictures, self.lead), dtype=torch.float64)
        return output
