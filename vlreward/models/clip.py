"""CLIP-type encoders of open_clip and transformers, loaded once per process and shared by every reward that uses them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F

from vlreward.config import locate
from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.models.folders import frozen, model_folder, pretrained
from vlreward.models.pixels import MODES, Preprocess
from vlreward.models.text_encoder import clean

KINDS = ("clip", "siglip")
"""transformers' model types that are read here; 'siglip' is also what SigLIP 2 of one resolution is called."""


@dataclass(frozen=True)
class Clip:
    """An image and a text tower with their preprocessing; features are unit vectors [B,D]."""

    preprocess: Preprocess
    encode_image: Callable[[torch.Tensor], torch.Tensor]
    """[B,3,H,W] as `preprocess` makes it -> [B,D]"""
    encode_text: Callable[[list[str]], torch.Tensor]
    """[B] texts -> [B,D]"""
    count_tokens: Callable[[str], int]
    limit: int
    """Tokens of a text that are read."""
    scale: float
    """What the cosine is multiplied by in the model's own training, 1 / temperature."""
    bias: float | None
    """What is added then, where the model was trained with a sigmoid (SigLIP)."""
    device: str

    def pixels(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """[B,3,H,W] as the model's own processor makes them. Differentiable in pictures that were made."""
        return self.preprocess(pictures, self.device)

    def image_features(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """[B,D]; each distinct picture is encoded once."""
        distinct, places = once([picture.key for picture in pictures])
        chosen = [pictures[i] for i in distinct]
        parts = [self.encode_image(self.pixels(chosen[i : i + 64])) for i in range(0, len(chosen), 64)]
        return F.normalize(torch.cat(parts).float(), dim=-1)[places]

    def text_features(self, texts: Sequence[str]) -> torch.Tensor:
        """[B,D], without gradient; each distinct text is encoded once."""
        distinct, places = once(texts)
        chosen = [clean(texts[i]) for i in distinct]
        with torch.no_grad():
            parts = [self.encode_text(chosen[i : i + 256]) for i in range(0, len(chosen), 256)]
        return F.normalize(torch.cat(parts).float(), dim=-1)[places]

    def cut(self, text: str) -> str:
        """A note where the text is longer than what is read, else ''."""
        if len(text.encode(errors="replace")) + 2 <= self.limit:  # a token is a byte at least
            return ""
        count = self.count_tokens(clean(text))
        return f"caption of {count} tokens, only the first {self.limit} were read" if count > self.limit else ""


def once(keys: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    """The first place of each distinct key, and which of those each key is like."""
    place: dict[Hashable, int] = {}
    first = []
    for i, key in enumerate(keys):
        if key not in place:
            place[key] = len(first)
            first.append(i)
    return first, [place[key] for key in keys]


@cache
def load_clip(model: str, device: str, processor: str | None = None) -> Clip:
    """A folder in open_clip's or transformers' form, a repository in the Hugging Face cache, or `NAME/PRETRAINED` as open_clip lists
    them (`ViT-B-32/openai`). `processor` is a transformers folder with the tokenizer and picture settings that the model's own lacks.
    Raises ConfigError."""
    import open_clip

    if not locate(model).is_dir() and model.rpartition("/")[0] in open_clip.list_models():
        name, _, pretrained = model.rpartition("/")
        return _load_open_clip(model, name, pretrained, device)
    try:
        folder = model_folder(model)
    except ConfigError as error:
        problem = f"{model!r} is neither a folder nor open_clip's MODEL/PRETRAINED such as 'ViT-B-32/openai', nor in the Hugging Face cache"
        raise ConfigError(f"{problem} (hf download {model})", "model") from error
    if (folder / "open_clip_config.json").is_file():
        return _load_open_clip(model, f"local-dir:{folder}", None, device)
    return _load_transformers(model, folder, device, model_folder(processor, "processor") if processor else folder)


def _load_open_clip(model: str, name: str, pretrained: str | None, device: str) -> Clip:
    import open_clip

    try:
        net, _, _ = open_clip.create_model_and_transforms(name, pretrained=pretrained, device=device)
        tokenizer = open_clip.get_tokenizer(name)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"cannot load {model!r} with open_clip: {str(error).splitlines()[0]}", "model") from error
    return wrap_open_clip(net, tokenizer, open_clip_preprocess(open_clip.get_model_preprocess_cfg(net), model), device)


def wrap_open_clip(net: Any, tokenizer: Any, preprocess: Preprocess, device: str) -> Clip:
    """An open_clip network, frozen, with its tokenizer."""
    net = net.eval().requires_grad_(False).to(device)

    def count(text: str) -> int:
        inner = getattr(tokenizer, "tokenizer", None)
        return len(inner(tokenizer.clean_fn(text), verbose=False)["input_ids"]) if inner is not None else len(tokenizer.encode(text)) + 2

    bias = getattr(net, "logit_bias", None)
    return Clip(
        preprocess,
        net.encode_image,
        lambda texts: net.encode_text(tokenizer(texts).to(device)),
        count,
        tokenizer.context_length,
        float(net.logit_scale.exp()),
        None if bias is None else float(bias),
        device,
    )


def open_clip_preprocess(config: dict[str, Any], model: str) -> Preprocess:
    """open_clip's `preprocess_cfg` for evaluation. Raises ConfigError."""
    size, mode, interpolation = config["size"], config.get("resize_mode", "shortest"), config.get("interpolation", "bicubic")
    height, width = size if isinstance(size, tuple | list) else (size, size)
    if mode not in ("shortest", "squash", "longest") or interpolation not in MODES or (mode == "shortest" and height != width):
        known = f"shortest (square), squash or longest, {' or '.join(MODES)}"
        raise ConfigError(f"{model!r} is preprocessed by {mode}, {interpolation}, {height} x {width}; known: {known}", "model")
    mean, std, fill = tuple(config["mean"]), tuple(config["std"]), (config.get("fill_color") or 0) / 255
    return Preprocess(
        height=height, width=width, mean=mean, std=std, resize=mode, edge=min(height, width), interpolation=interpolation, fill=fill
    )


def _load_transformers(model: str, folder: Any, device: str, processor: Any) -> Clip:
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    net = frozen(AutoModel, folder, device, dtype=torch.float32)
    tokenizer, settings = (pretrained(kind, processor, "processor") for kind in (AutoTokenizer, AutoImageProcessor))
    kind = net.config.model_type
    if kind not in KINDS:
        raise ConfigError(f"{model!r} is a {kind!r}, expected one of {', '.join(KINDS)}", "model")
    limit = net.config.text_config.max_position_embeddings
    # SigLIP was trained on lower case, padded at the right to its whole length, with attention to the padding
    whole = kind == "siglip"
    tokenizer.padding_side = "right"

    def tokens(texts: list[str]) -> Any:
        texts = [text.lower() for text in texts] if whole else texts
        padding = "max_length" if whole else True
        found = tokenizer(texts, padding=padding, truncation=True, max_length=limit, return_tensors="pt").to(device)
        return {"input_ids": found["input_ids"]} if whole else {name: found[name] for name in ("input_ids", "attention_mask")}

    bias = getattr(net, "logit_bias", None)
    return Clip(
        transformers_preprocess(settings, model),
        lambda pixels: as_tensor(net.get_image_features(pixel_values=pixels)),
        lambda texts: as_tensor(net.get_text_features(**tokens(texts))),
        lambda text: len(tokenizer(text.lower() if whole else text, verbose=False)["input_ids"]),
        limit,
        float(net.logit_scale.exp()),
        None if bias is None else float(bias),
        device,
    )


def transformers_preprocess(settings: Any, model: str) -> Preprocess:
    """A transformers image processor of CLIP's or SigLIP's kind. Raises ConfigError."""
    size, interpolation = settings.size, {2: "bilinear", 3: "bicubic"}.get(int(settings.resample))
    edge = size.get("shortest_edge")
    crop = settings.crop_size if getattr(settings, "do_center_crop", False) else size
    if interpolation is None or not settings.do_resize or not (crop.get("height") and crop.get("width")):
        known = f"{' or '.join(MODES)} to a fixed size"
        raise ConfigError(f"{model!r} resizes pictures to {dict(size)} by resample {settings.resample}; known: {known}", "model")
    if edge is None and dict(crop) != dict(size):
        raise ConfigError(f"{model!r} resizes pictures to {dict(size)} and cuts out {dict(crop)}, expected the same", "model")
    return Preprocess(
        height=crop["height"],
        width=crop["width"],
        mean=tuple(settings.image_mean),
        std=tuple(settings.image_std),
        resize="shortest" if edge else "squash",
        edge=edge or crop["height"],
        interpolation=interpolation,
        levels="torch",
        crop_down=True,
    )


def as_tensor(output: Any) -> torch.Tensor:
    """[B,D] features: transformers 5 gives an object whose pooler_output they are, transformers 4 the tensor."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output
