"""Who writes a prompt anew from a critique of the picture that was made from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from vlreward.config import Count
from vlreward.data.media import Visual
from vlreward.errors import ConfigError
from vlreward.models.language_model import load_language_model
from vlreward.registry import register

PLACE = re.compile(r"\{(prompt|critique)\}")


@dataclass(kw_only=True)
class Refiner:
    """Base of all refiners."""

    family: ClassVar[str] = "refiners"
    kind: ClassVar[str]

    def load(self, device: str) -> None:
        """Bring models into memory; called before the first `refine`."""

    def refine(self, prompt: str, critique: str, made: Visual | None) -> str:
        """The next prompt, from the first one, what the judges noted of the picture, and that picture."""
        raise NotImplementedError(f"{type(self).__name__} must define refine")


@register("template")
@dataclass(kw_only=True)
class Template(Refiner):
    """The prompt and the critique in one text, as `text` sets them; "{prompt}" alone asks anew."""

    text: str = "{prompt}. {critique}"

    def __post_init__(self):
        if "{prompt}" not in self.text:
            raise ConfigError("has no {prompt}, so that what was asked for would be lost", "text")

    def refine(self, prompt: str, critique: str, made: Visual | None) -> str:
        return filled(self.text, prompt, critique)


@register("rewriter")
@dataclass(kw_only=True)
class Rewriter(Refiner):
    """A language model writes the prompt, asked with `text`; an empty answer leaves the prompt as it is."""

    model: str
    """A folder of a causal language model, or of a vision-language model, which is not shown the picture."""
    text: str = (
        "A picture was made from this prompt: {prompt}\nA judge found: {critique}\nWrite a prompt that avoids these faults. "
        "Answer with the prompt alone."
    )
    max_new_tokens: Count = 128

    def load(self, device: str) -> None:
        self._model = load_language_model(self.model, device)

    def refine(self, prompt: str, critique: str, made: Visual | None) -> str:
        [answer] = self._model.complete([filled(self.text, prompt, critique)], self.max_new_tokens)
        return answer.strip() or prompt


def filled(text: str, prompt: str, critique: str) -> str:
    """The text with both in their places; what stands in them is never read as a place of its own."""
    return PLACE.sub(lambda found: {"prompt": prompt, "critique": critique}[found.group(1)], text)
