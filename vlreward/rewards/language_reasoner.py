"""A frozen language model as the reader of reasons."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vlreward.config import Count
from vlreward.errors import ConfigError
from vlreward.models.language_model import load_language_model
from vlreward.registry import register
from vlreward.rewards.answers import CLOSE, OPEN, final_answer
from vlreward.rewards.reasoner import Reasoner
from vlreward.types import Sample

ANSWERED = re.compile(rf"{OPEN}.*?(?:{CLOSE}|$)|{CLOSE}", re.DOTALL)


@register("language_model")
@dataclass(kw_only=True)
class LanguageReasoner(Reasoner):
    """Asks a frozen language model, greedily, what answer a text of reasons leads to; it sees neither picture nor question.

    Whatever stands in answer tags inside of the reasons is taken out before, so that no answer is smuggled in. The model's last
    `<answer>...</answer>` counts, or all that it says without one. Texts without any reasons are not asked about.
    """

    model: str
    """A folder with a causal language model or a vision-language model."""
    prompt: str = (
        "Below are someone's reasons.\n\n<reasons>\n{reasons}\n</reasons>\n\nWhich final answer do they lead to? "
        "Go by the reasons alone. Reply with <answer>the answer</answer>."
    )
    max_new_tokens: Count = 100

    def __post_init__(self):
        if "{reasons}" not in self.prompt:
            raise ConfigError(f"is {self.prompt!r}, expected a text with {{reasons}} in it", "prompt")

    def load(self, device: str) -> None:
        self._model = load_language_model(self.model, device)

    def infer(self, samples: Sequence[Sample], reasons: Sequence[str]) -> list[str]:
        bare = [ANSWERED.sub(" ", text).strip() for text in reasons]
        asked = [row for row, text in enumerate(bare) if text]
        said = self._model.complete([self.prompt.replace("{reasons}", bare[row]) for row in asked], self.max_new_tokens)
        answers = [""] * len(bare)
        for row, text in zip(asked, said, strict=True):
            found = final_answer(text)
            answers[row] = found[0] if found else text.strip()
        return answers
