"""Frozen language models that answer a text with a text, loaded once per process from local folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from vlreward.models.folders import frozen, pretrained, transformers_folder
from vlreward.models.text_encoder import clean

AT_ONCE = 32
"""Prompts in one batch."""


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model, or the language half of a vision-language model, with its tokenizer."""

    model: Any
    tokenizer: Any

    @torch.no_grad()
    def complete(self, prompts: Sequence[str], max_new_tokens: int, max_tokens: int = 4096) -> list[str]:
        """What it answers each prompt greedily, as one turn of a user where the tokenizer has a chat template. Equal prompts run once.

        Of a prompt longer than `max_tokens` the end is read.
        """
        distinct = sorted(dict.fromkeys(prompts), key=len)
        answers: dict[str, str] = {}
        for first in range(0, len(distinct), AT_ONCE):
            chosen = distinct[first : first + AT_ONCE]
            inputs = self.tokenizer(
                [self._turn(clean(prompt)) for prompt in chosen], padding=True, padding_side="left", truncation=True,
                max_length=max_tokens, add_special_tokens=not self.tokenizer.chat_template, return_tensors="pt",
            ).to(self.model.device)  # fmt: skip
            made = self.model.generate(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=max_new_tokens, do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
            )  # fmt: skip
            texts = self.tokenizer.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            answers |= dict(zip(chosen, texts, strict=True))
        return [answers[prompt] for prompt in prompts]

    def _turn(self, prompt: str) -> str:
        if not self.tokenizer.chat_template:
            return prompt
        content: Any = prompt
        return self.tokenizer.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)


@cache
def load_language_model(model: str, device: str) -> LanguageModel:
    """Model and tokenizer of a transformers folder. Raises ConfigError."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

    folder = transformers_folder(model)
    pictured = "vision_config" in json.loads((folder / "config.json").read_text())
    tokenizer = pretrained(AutoTokenizer, folder, truncation_side="left")
    network = frozen(AutoModelForImageTextToText if pictured else AutoModelForCausalLM, folder, device, dtype="auto")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return LanguageModel(network, tokenizer)
