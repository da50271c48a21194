"""HPSv3: Qwen2-VL with a head on the token that ends its question, from its own file of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.models.folders import fill, load_weights, model_file, model_folder, pretrained
from vlreward.models.pixels import resized
from vlreward.models.text_encoder import clean

TOKEN = "<|Reward|>"
"""Behind the question; what the network makes of it is what the head reads."""
PIXELS = 256 * 28 * 28
"""About how many a picture gets, whatever it came with."""
FACTOR = 28
RENAMED = {"model.language_model.": "language_model.", "model.visual.": "visual.", "model.": "language_model."}
"""How names in the file begin -> in transformers 5; the first that fits."""


@dataclass(frozen=True)
class Hpsv3:
    """The network without its language head, the reward head in single precision, and the processor."""

    network: Any
    head: nn.Sequential
    processor: Any
    template: str
    token: int

    def scores(self, pictures: Sequence[Picture], texts: Sequence[str], at_once: int = 4) -> torch.Tensor:
        """[B] the mean of the score's distribution."""
        parts = [self._some(pictures[i : i + at_once], texts[i : i + at_once]) for i in range(0, len(texts), at_once)]
        return torch.cat(parts)

    def _some(self, pictures: Sequence[Picture], texts: Sequence[str]) -> torch.Tensor:
        device = self.network.device
        images = [resized(picture, size, "bicubic", "pil", str(device)) for picture in pictures]
        asked = [self._turn(text) for text in texts]
        inputs = self.processor(
            text=asked, images=images, padding=True, padding_side="right", do_rescale=False, do_resize=False, return_tensors="pt"
        ).to(device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.network.dtype)
        states = self.network(**inputs).last_hidden_state
        return self.head(states[inputs["input_ids"] == self.token].float())[:, 0]

    def _turn(self, text: str) -> str:
        """The question about a picture, in which no words of the prompt can stand for a special token."""
        words = clean(text).replace("<|", "< |")
        content = [{"type": "image"}, {"type": "text", "text": self.template.replace("{prompt}", words)}]
        return self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)


def size(high: int, wide: int) -> tuple[int, int]:
    """(height, width) at which a picture is looked at."""
    from qwen_vl_utils import smart_resize

    return smart_resize(high, wide, factor=FACTOR, min_pixels=PIXELS, max_pixels=PIXELS)


@cache
def load_hpsv3(model: str, processor: str, template: str, dtype: str, device: str) -> Hpsv3:
    """The file of weights, the folder of the Qwen2-VL that it was made from, and the text of the question. Raises ConfigError."""
    from transformers import AutoProcessor, Qwen2VLConfig, Qwen2VLModel

    file, folder = model_file(model), model_folder(processor, "processor")
    if template.count("{prompt}") != 1 or template.count(TOKEN) != 1:
        raise ConfigError(f"is a text of {len(template)} characters, expected {{prompt}} and {TOKEN} in it, once each", "template")
    words, config = pretrained(AutoProcessor, folder, "processor"), pretrained(Qwen2VLConfig, folder, "processor")
    words.tokenizer.add_special_tokens({"additional_special_tokens": [TOKEN]})
    token = words.tokenizer.convert_tokens_to_ids(TOKEN)
    weights = load_weights(file)
    names = set(weights)
    head = {name.removeprefix("rm_head."): weights.pop(name).float() for name in list(weights) if name.startswith("rm_head.")}
    weights.pop("lm_head.weight", None)
    weights = {renamed(name): value.to(getattr(torch, dtype)) for name, value in weights.items()}
    rows = len(weights.get("language_model.embed_tokens.weight", ()))
    if not {"rm_head.0.weight", "rm_head.3.weight", "rm_head.5.weight"} <= names or rows <= token:
        raise ConfigError(f"{model!r} has no rm_head.{{0,3,5}} or only {rows} rows of embeddings, expected HPSv3's", "model")
    config.text_config.vocab_size = rows
    keys: Any = {"config": config, "state_dict": weights, "dtype": getattr(torch, dtype), "output_loading_info": True}
    loaded: Any = Qwen2VLModel.from_pretrained(None, **keys)
    network, found = loaded
    wrong = [name for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in found[kind]]
    if wrong:
        first = sorted(map(str, wrong))[0]
        raise ConfigError(
            f"{model!r} does not fit {processor!r}: {len(wrong)} tensors are missing or too many, such as {wrong[0]}", "model"
        )
    sizes = [head[f"{place}.weight"].shape for place in (0, 3, 5)]
    first, second, third = (nn.Linear(inner, outer) for outer, inner in sizes)
    judge = nn.Sequential(first, nn.ReLU(), nn.Identity(), second, nn.ReLU(), third)
    fill(judge, head, file)
    networks: list[nn.Module] = [network, judge]
    network, judge = (part.eval().requires_grad_(False).to(device) for part in networks)
    return Hpsv3(network, judge, words, template, token)  # type: ignore[arg-type]


def renamed(name: str) -> str:
    """A tensor's name in transformers 5."""
    for old, new in RENAMED.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
