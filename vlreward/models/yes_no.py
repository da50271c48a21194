"""How sure a frozen vision-language model is that the answer to a question is yes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from PIL import Image

from vlreward.config import locate
from vlreward.errors import ConfigError
from vlreward.models.text_encoder import clean

SPELLINGS = {True: ("Yes", "yes", " Yes", " yes", "YES"), False: ("No", "no", " No", " no", "NO")}


@dataclass(frozen=True)
class YesNo:
    """A vision-language model that is asked closed questions."""

    model: Any
    processor: Any

    @torch.no_grad()
    def probability(
        self, questions: Sequence[str], pictures: Sequence[Image.Image | None], lead: str = "", at_once: int = 8
    ) -> list[float]:
        """P(yes) / (P(yes) + P(no)) of the first token behind `lead`, which the model's answer is made to begin with."""
        ids = {answer: self._first(words) for answer, words in SPELLINGS.items()}
        found: list[float] = []
        for first in range(0, len(questions), at_once):
            chosen = slice(first, first + at_once)
            texts = [self._turn(question, picture) + lead for question, picture in zip(questions[chosen], pictures[chosen], strict=True)]
            images = [picture for picture in pictures[chosen] if picture is not None]
            inputs = self.processor(text=texts, images=images or None, padding=True, padding_side="left", return_tensors="pt")
            logits = self.model(**inputs.to(self.model.device)).logits[:, -1].float()
            yes, no = (torch.logsumexp(logits[:, ids[answer]], 1) for answer in (True, False))
            found += torch.sigmoid(yes - no).tolist()
        return found

    def _turn(self, question: str, picture: Image.Image | None) -> str:
        content = [{"type": "image"}] * (picture is not None) + [{"type": "text", "text": clean(question)}]
        return self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)

    def _first(self, words: Sequence[str]) -> list[int]:
        tokens = (self.processor.tokenizer(word, add_special_tokens=False)["input_ids"] for word in words)
        return sorted({token[0] for token in tokens if len(token) == 1}) or [self.processor.tokenizer(words[1])["input_ids"][0]]


@cache
def load_yes_no(model: str, device: str) -> YesNo:
    """Model and processor of a transformers folder. Raises ConfigError."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = locate(model)
    if not (folder / "config.json").is_file():
        raise ConfigError(f"is {model!r}, expected a folder with a vision-language model (config.json is missing)", "model")
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        network: Any = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype="auto")
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"cannot load {model!r}: {str(error).splitlines()[0]}", "model") from error
    return YesNo(network.eval().requires_grad_(False).to(device), processor)
