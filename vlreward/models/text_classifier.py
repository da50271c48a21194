"""Classifiers of texts from transformers models in local folders, loaded once per process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from vlreward.models.folders import frozen, pretrained, transformers_folder
from vlreward.models.text_encoder import clean

TEXTS_AT_ONCE = 64
MAX_TOKENS = 512
"""Tokens of a text that are looked at, unless the tokenizer takes fewer."""


@dataclass(frozen=True)
class TextClassifier:
    """A transformers sequence classifier with its tokenizer."""

    model: Any
    tokenizer: Any
    device: str

    @torch.no_grad()
    def probabilities(self, texts: Sequence[str]) -> torch.Tensor:
        """[B,L] float64, the probability of each label; each distinct text is classified once."""
        distinct = sorted(set(texts), key=len)
        limit = min(self.tokenizer.model_max_length, MAX_TOKENS)
        rows = []
        for first in range(0, len(distinct), TEXTS_AT_ONCE):
            chunk = [clean(text) for text in distinct[first : first + TEXTS_AT_ONCE]]
            batch = self.tokenizer(chunk, padding=True, truncation=True, max_length=limit, return_tensors="pt").to(self.device)
            rows.append(self.model(**batch).logits.double().softmax(-1).cpu())
        place = {text: i for i, text in enumerate(distinct)}
        return torch.cat([*rows, torch.zeros(0, self.model.config.num_labels, dtype=torch.float64)])[[place[text] for text in texts]]


@cache
def load_classifier(model: str, device: str) -> TextClassifier:
    """A folder with a sequence classifier. Raises ConfigError."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = transformers_folder(model)
    return TextClassifier(frozen(AutoModelForSequenceClassification, folder, device), pretrained(AutoTokenizer, folder), device)
