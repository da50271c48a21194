"""BLIP that was trained to tell whether a text belongs to a picture, as transformers' BlipForImageTextRetrieval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F

from vlreward.data.media import Picture
from vlreward.models.clip import once, transformers_preprocess
from vlreward.models.folders import frozen, pretrained, transformers_folder
from vlreward.models.pixels import Preprocess
from vlreward.models.text_encoder import clean

LIMIT = 35
"""Tokens of a text that are read, as BLIP was trained."""


@dataclass(frozen=True)
class BlipMatch:
    """The network with its tokenizer and preprocessing."""

    network: Any
    tokenizer: Any
    preprocess: Preprocess
    device: str

    def scores(self, pictures: Sequence[Picture], texts: Sequence[str], at_once: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
        """[B] cosine of both as wholes, and [B] probability that they belong together by a text that looked at the picture's patches."""
        distinct, places = once([picture.key for picture in pictures])
        chosen = [pictures[i] for i in distinct]
        parts = [
            self.network.vision_model(pixel_values=self.preprocess(chosen[i : i + at_once], self.device)).last_hidden_state
            for i in range(0, len(chosen), at_once)
        ]
        patches = torch.cat(parts)
        found = [self._some(patches[places[i : i + at_once]], texts[i : i + at_once]) for i in range(0, len(texts), at_once)]
        whole, fine = zip(*found, strict=True)
        return torch.cat(whole), torch.cat(fine)

    def _some(self, patches: torch.Tensor, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        keys = {"padding": True, "truncation": True, "max_length": LIMIT, "return_tensors": "pt"}
        tokens = self.tokenizer([clean(text) for text in texts], **keys).to(self.device)
        inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        net = self.network
        image = F.normalize(net.vision_proj(patches[:, 0]), dim=-1)
        text = F.normalize(net.text_proj(net.text_encoder(**inputs).last_hidden_state[:, 0]), dim=-1)
        read = net.text_encoder(**inputs, encoder_hidden_states=patches).last_hidden_state[:, 0]
        return (image * text).sum(-1), net.itm_head(read).softmax(-1)[:, 1]

    def cut(self, text: str) -> str:
        """A note where the text is longer than what is read, else ''."""
        count = len(self.tokenizer(clean(text), verbose=False)["input_ids"])
        return f"prompt of {count} tokens, only the first {LIMIT} were read" if count > LIMIT else ""


@cache
def load_blip_match(model: str, device: str) -> BlipMatch:
    """A transformers folder such as Salesforce/blip-itm-large-coco. Raises ConfigError."""
    from transformers import AutoImageProcessor, AutoTokenizer, BlipForImageTextRetrieval

    folder = transformers_folder(model)
    network = frozen(BlipForImageTextRetrieval, folder, device, dtype=torch.float32)
    tokenizer, settings = pretrained(AutoTokenizer, folder), pretrained(AutoImageProcessor, folder)
    tokenizer.padding_side = "right"
    return BlipMatch(network, tokenizer, transformers_preprocess(settings, model), device)
