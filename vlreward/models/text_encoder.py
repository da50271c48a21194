"""Vectors of words and sentences from transformers models in local folders, loaded once per process."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from vlreward.errors import ConfigError
from vlreward.models.folders import frozen, pretrained, transformers_folder

INPUT_EMBEDDINGS = (
    "embed_tokens.weight",
    "word_embeddings.weight",
    "wte.weight",
    "tok_embeddings.weight",
    "embed_in.weight",
    "shared.weight",
)
"""How transformers' checkpoints call the table of input embeddings, whatever stands before it."""
MAX_TOKENS = 2048
"""Tokens of a text that are looked at; the rest is left out."""
TOKENS_AT_ONCE = 16_384
"""Padded tokens in one pass through an encoder."""


@dataclass(frozen=True)
class TokenTable:
    """A tokenizer and its model's input embeddings as unit rows [V,D]."""

    tokenizer: Any
    vectors: torch.Tensor

    def encode(self, text: str) -> torch.Tensor:
        """[T,D] unit vectors of a text's tokens, without special ones."""
        ids = self.tokenizer(clean(text), add_special_tokens=False)["input_ids"][:MAX_TOKENS]
        return self.vectors[torch.tensor(ids, dtype=torch.long)]


@dataclass(frozen=True)
class Encoder:
    """A bidirectional transformer with its tokenizer. `pooling` makes one vector of a text: 'mean' over its tokens, or its 'first'."""

    model: Any
    tokenizer: Any
    pooling: str
    limit: int
    device: str

    def sentences(self, texts: Sequence[str]) -> torch.Tensor:
        """[B,D] unit vectors; each distinct text is encoded once."""

        def pool(states: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            return F.normalize(states[0] if self.pooling == "first" else states.mean(0), dim=-1)

        return torch.stack(self._each(texts, -1, pool))

    def tokens(self, texts: Sequence[str], layer: int = -1) -> list[torch.Tensor]:
        """Per text [T,D], unit vectors of its tokens after a layer (0: the embeddings, -1: the last), without start and end marks."""
        marks = (getattr(self.tokenizer, f"{name}_token_id", None) for name in ("cls", "sep", "bos", "eos", "pad"))
        special = torch.tensor([mark for mark in marks if mark is not None], dtype=torch.long, device=self.device)

        def pick(states: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            return F.normalize(states[~torch.isin(ids, special)], dim=-1)

        return self._each(texts, layer, pick)

    @torch.no_grad()
    def _each(self, texts: Sequence[str], layer: int, keep: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
        """`keep(states [T,D], ids [T])` of each text; texts of like length go through the model together."""
        distinct = sorted(set(texts), key=len)
        found: dict[str, torch.Tensor] = {}
        while distinct:
            ids = self.tokenizer([clean(text) for text in distinct[-64:]], truncation=True, max_length=self.limit)["input_ids"]
            longest = max(map(len, ids))
            count = min(len(ids), max(1, TOKENS_AT_ONCE // longest))
            chunk = distinct[-count:]
            batch = self.tokenizer.pad({"input_ids": ids[-count:]}, return_tensors="pt").to(self.device)
            states = self.model(**batch, output_hidden_states=True).hidden_states[layer].float()
            for text, row, token_ids, mask in zip(chunk, states, batch["input_ids"], batch["attention_mask"].bool(), strict=True):
                found[text] = keep(row[mask], token_ids[mask])
            del distinct[-count:]
        return [found[text] for text in texts]


@cache
def load_token_table(model: str) -> TokenTable:
    """Tokenizer and input embeddings of a model folder, of which nothing else is read. Raises ConfigError."""
    from safetensors import safe_open
    from transformers import AutoTokenizer

    folder = transformers_folder(model)
    tokenizer = pretrained(AutoTokenizer, folder)
    places: dict[str, Path] = {}
    index = folder / "model.safetensors.index.json"
    files = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.is_file() else ["model.safetensors"]
    for file in files:
        if not (folder / file).is_file():
            raise ConfigError(f"{folder} has no {file}", "model")
        with safe_open(folder / file, "pt") as tensors:
            places |= {name: folder / file for name in tensors.keys() if name.endswith(INPUT_EMBEDDINGS)}  # noqa: SIM118 - no mapping
    tables = []
    for name, path in places.items():
        with safe_open(path, "pt") as tensors:
            tables.append(tensors.get_tensor(name))
    tables = [table for table in tables if len(table) >= len(tokenizer)]
    if not tables:
        raise ConfigError(
            f"{folder} has no table of input embeddings ({', '.join(INPUT_EMBEDDINGS)}) for its {len(tokenizer)} tokens", "model"
        )
    return TokenTable(tokenizer, F.normalize(max(tables, key=len).float(), dim=-1))


@cache
def load_encoder(model: str, device: str) -> Encoder:
    """An encoder folder in transformers' or sentence-transformers' form (whose pooling is followed). Raises ConfigError."""
    from transformers import AutoModel, AutoTokenizer

    folder = transformers_folder(model)
    tokenizer, network = pretrained(AutoTokenizer, folder), frozen(AutoModel, folder, device)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    pooling = folder / "1_Pooling" / "config.json"
    first = pooling.is_file() and json.loads(pooling.read_text()).get("pooling_mode_cls_token", False)
    limit = min(tokenizer.model_max_length, getattr(network.config, "max_position_embeddings", MAX_TOKENS), MAX_TOKENS)
    return Encoder(network, tokenizer, "first" if first else "mean", limit, device)


def clean(text: str) -> str:
    """The text without lone surrogates, which tokenizers refuse."""
    return text.encode(errors="replace").decode()
