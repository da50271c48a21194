"""CLIP encoders in open_clip's format, loaded once per process and shared by every reward that uses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as VF

from vlreward.config import locate
from vlreward.data.media import Picture
from vlreward.errors import ConfigError


@dataclass(frozen=True)
class Clip:
    """An image and a text tower with their preprocessing; features are unit vectors [B,D]."""

    model: Any
    tokenizer: Any
    side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    squash: bool
    """Whether preprocessing resizes both sides to `side`; otherwise the shorter one, with a centre crop."""
    device: str

    def pixels(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """[B,3,side,side] normalised, resized by bicubic interpolation with antialiasing. Differentiable in the pictures."""
        size = [self.side, self.side] if self.squash else [self.side]
        rows = []
        for picture in pictures:
            pixels = picture.tensor.to(self.device, torch.float32)
            resized = VF.resize(pixels, size, interpolation=VF.InterpolationMode.BICUBIC, antialias=True)
            rows.append(VF.center_crop(resized, [self.side, self.side]).clamp(0, 1))
        return VF.normalize(torch.stack(rows), list(self.mean), list(self.std))

    def image_features(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """[B,D]; each distinct picture object is encoded once."""
        distinct = list({id(picture): picture for picture in pictures}.values())
        place = {id(picture): i for i, picture in enumerate(distinct)}
        parts = [self.model.encode_image(self.pixels(distinct[i : i + 64])) for i in range(0, len(distinct), 64)]
        features = F.normalize(torch.cat(parts).float(), dim=-1)
        return features[[place[id(picture)] for picture in pictures]]

    def text_features(self, texts: Sequence[str]) -> torch.Tensor:
        """[B,D], without gradient; each distinct text is encoded once."""
        distinct = list(dict.fromkeys(texts))
        with torch.no_grad():
            parts = [self.model.encode_text(self.tokenizer(distinct[i : i + 256]).to(self.device)) for i in range(0, len(distinct), 256)]
        features = F.normalize(torch.cat(parts).float(), dim=-1)
        return features[[distinct.index(text) for text in texts]]


@cache
def load_clip(model: str, device: str) -> Clip:
    """A folder in open_clip's format, or `NAME/PRETRAINED` as open_clip lists them (`ViT-B-32/openai`). Raises ConfigError."""
    import open_clip

    name, pretrained = model, None
    if locate(model).is_dir():
        name = f"local-dir:{locate(model)}"
    elif model.rpartition("/")[0] in open_clip.list_models():
        name, _, pretrained = model.rpartition("/")
    else:
        raise ConfigError(f"{model!r} is neither a folder nor open_clip's MODEL/PRETRAINED such as 'ViT-B-32/openai'", "model")
    try:
        net, _, _ = open_clip.create_model_and_transforms(name, pretrained=pretrained, device=device)
        tokenizer = open_clip.get_tokenizer(name)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"cannot load {model!r} with open_clip: {str(error).splitlines()[0]}", "model") from error
    config = open_clip.get_model_preprocess_cfg(net)
    mode = config.get("resize_mode", "shortest")
    if mode not in ("shortest", "squash") or config.get("interpolation", "bicubic") != "bicubic":
        raise ConfigError(f"{model!r} is preprocessed by {mode}, {config['interpolation']}; known: shortest or squash, bicubic", "model")
    side = config["size"][0] if isinstance(config["size"], tuple | list) else config["size"]
    net = net.eval().requires_grad_(False)
    return Clip(net, tokenizer, side, tuple(config["mean"]), tuple(config["std"]), mode == "squash", device)
