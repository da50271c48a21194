"""A BERT that was trained to say how well an answer agrees with a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from vlreward.models.folders import fill, load_weights, model_file, pretrained, transformers_folder
from vlreward.models.text_encoder import clean

MAX_TOKENS = 2048
"""Of reference and answer together; the longer of them is cut first."""


class Network(nn.Module):
    """An encoder without a head as `bert`, and a linear layer to one number."""

    def __init__(self, bert: nn.Module, width: int):
        super().__init__()
        self.bert = bert
        self.regressor = nn.Linear(width, 1)

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """[B] in (0, 1)"""
        states = self.bert(**inputs)
        pooled = getattr(states, "pooler_output", None)
        return self.regressor(states.last_hidden_state[:, 0] if pooled is None else pooled)[:, 0].sigmoid()


@dataclass(frozen=True)
class PrefBert:
    """The network and its tokenizer."""

    network: Any
    tokenizer: Any
    limit: int
    device: str

    @torch.no_grad()
    def scores(self, pairs: Sequence[tuple[str, str]], at_once: int = 32) -> list[float]:
        """How well each (answer, reference) agrees; pairs of like length go through the network together."""
        distinct = sorted(set(pairs), key=lambda pair: (len(pair[0]) + len(pair[1]), pair))
        found: dict[tuple[str, str], float] = {}
        for first in range(0, len(distinct), at_once):
            some = distinct[first : first + at_once]
            answers, wanted = ([clean(pair[side]) for pair in some] for side in (0, 1))
            keys = {"padding": True, "truncation": True, "max_length": self.limit, "return_tensors": "pt"}
            inputs = dict(self.tokenizer(wanted, answers, **keys).to(self.device))
            if getattr(self.network.bert.config, "type_vocab_size", 1) < 2:
                inputs.pop("token_type_ids", None)
            found |= dict(zip(some, self.network(**inputs).tolist(), strict=True))
        return [found[pair] for pair in pairs]


@cache
def load_pref_bert(model: str, device: str) -> PrefBert:
    """A folder in PrefBERT's form: config.json, a tokenizer, and pytorch_model.safetensors with `bert.*` and `regressor.*`. Raises
    ConfigError."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    folder = transformers_folder(model)
    file = model_file(str(folder / "pytorch_model.safetensors"))
    config, tokenizer = pretrained(AutoConfig, folder), pretrained(AutoTokenizer, folder)
    network = Network(AutoModel.from_config(config), config.hidden_size)
    fill(network, load_weights(file), file)
    tokenizer.padding_side = "right"
    limit = min(MAX_TOKENS, config.max_position_embeddings, tokenizer.model_max_length)
    return PrefBert(network.eval().requires_grad_(False).to(device), tokenizer, limit, device)
