"""MPS: CLIP-H whose picture is read under the words of its caption that matter to a condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.models.clip import once, transformers_preprocess
from vlreward.models.folders import fill, load_weights, model_file, model_folder, pretrained
from vlreward.models.pixels import Preprocess
from vlreward.models.text_encoder import clean

HEAD = 64
"""Width of an attention head; all heads share one key and one value."""


class Norm(nn.Module):
    """Layer norm whose bias is stored but was never trained."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.register_buffer("bias", torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias)  # type: ignore[arg-type]


class Gated(nn.Module):
    """The first half, gated by SiLU of the second."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = x.chunk(2, dim=-1)
        return F.silu(gate) * value


class Turned(nn.Module):
    """Rotary positions of one head: [N,HEAD] angles."""

    def __init__(self):
        super().__init__()
        self.register_buffer("inv_freq", 1 / 10_000 ** (torch.arange(0, HEAD, 2).float() / HEAD))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` is [...,N,HEAD]"""
        angle = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)[:, None] * self.inv_freq  # type: ignore[operator]
        angle = torch.cat((angle, angle), dim=-1)
        first, second = x.chunk(2, dim=-1)
        return x * angle.cos() + torch.cat((-second, first), dim=-1) * angle.sin()


class Cross(nn.Module):
    """Picture patches look at the caption's tokens; a feed-forward part stands beside it."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = Norm(width)
        self.to_q = nn.Linear(width, heads * HEAD, bias=False)
        self.to_kv = nn.Linear(width, 2 * HEAD, bias=False)
        self.to_out = nn.Linear(heads * HEAD, width, bias=False)
        self.ff = nn.Sequential(nn.Linear(width, 8 * width, bias=False), Gated(), nn.Linear(4 * width, width, bias=False))

    def forward(self, x: torch.Tensor, text: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        x = self.norm(x)
        query = self.to_q(x).unflatten(-1, (self.heads, HEAD)).transpose(1, 2)
        key, value = self.to_kv(text)[:, None].chunk(2, dim=-1)
        return self.to_out(attend(query, key, value, seen[:, None, None])) + self.ff(x)


class Parallel(nn.Module):
    """Picture patches look at each other; attention and feed-forward part out of one projection."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.parts = heads, (heads * HEAD, HEAD, HEAD, 8 * width)
        self.norm = Norm(width)
        self.rotary_emb = Turned()
        self.fused_attn_ff_proj = nn.Linear(width, sum(self.parts), bias=False)
        self.attn_out = nn.Linear(heads * HEAD, width, bias=False)
        self.ff_out = nn.Sequential(Gated(), nn.Linear(4 * width, width, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value, inner = self.fused_attn_ff_proj(self.norm(x)).split(self.parts, dim=-1)
        query = query.unflatten(-1, (self.heads, HEAD)).transpose(1, 2)
        found = attend(self.rotary_emb(query), self.rotary_emb(key[:, None]), value[:, None])
        return self.attn_out(found) + self.ff_out(inner)


class Residual(nn.Module):
    """x + fn(x)"""

    def __init__(self, fn: nn.Module):
        super().__init__()
        self.fn = fn

    def forward(self, x: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        return x + self.fn(x, *more)


class CrossModel(nn.Module):
    """Layers of both kinds in turn."""

    def __init__(self, width: int, heads: int, layers: int):
        super().__init__()
        pairs = (nn.ModuleList([Residual(Cross(width, heads)), Residual(Parallel(width, heads))]) for _ in range(layers))
        self.layers = nn.ModuleList(pairs)

    def forward(self, patches: torch.Tensor, text: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """[B,P,D] patches under [B,T,D] tokens of which `seen` [B,T] bool are looked at"""
        for cross, parallel in self.layers:  # type: ignore[misc]
            patches = parallel(cross(patches, text, seen))
        return patches


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
    """[B,N,heads*HEAD] of queries [B,heads,N,HEAD] over one key and value [B,1,M,HEAD]."""
    key, value = (x.expand(-1, query.shape[1], -1, -1) for x in (key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=seen).transpose(1, 2).flatten(2)


class Network(nn.Module):
    """transformers' CLIPModel as `model`, and the layers that cross picture and caption."""

    def __init__(self, config: Any, heads: int, layers: int):
        from transformers import CLIPModel

        super().__init__()
        self.model = CLIPModel(config)
        self.cross_model = CrossModel(config.projection_dim, heads, layers)


@dataclass(frozen=True)
class Mps:
    """The network with its tokenizer and preprocessing."""

    network: Any
    tokenizer: Any
    preprocess: Preprocess
    limit: int
    device: str

    def scores(self, pictures: Sequence[Picture], texts: Sequence[str], condition: str, threshold: float) -> torch.Tensor:
        """[B] scale * cosine of the caption with the picture as it looks under the caption's tokens whose largest product with a token of
        the condition is more than `threshold` of that caption's own largest."""
        clip = self.network.model
        distinct, places = once([picture.key for picture in pictures])
        chosen = [pictures[i] for i in distinct]
        parts = [
            clip.visual_projection(clip.vision_model(pixel_values=self.preprocess(chosen[i : i + 16], self.device)).last_hidden_state)
            for i in range(0, len(chosen), 16)
        ]
        patches = torch.cat(parts)
        first, of = once(texts)
        with torch.no_grad():
            tokens, pooled = self._text([texts[i] for i in first])
            wanted, _ = self._text([condition])
            product = torch.einsum("bid,jd->bij", tokens, wanted[0]).amax(2)
            seen = product / product.amax(1, keepdim=True) > threshold
        some = [(places[i : i + 16], of[i : i + 16]) for i in range(0, len(texts), 16)]
        states = [self.network.cross_model(patches[place], tokens[text], seen[text])[:, 0] for place, text in some]
        return clip.logit_scale.exp() * (F.normalize(torch.cat(states), dim=-1) * F.normalize(pooled[of], dim=-1)).sum(-1)

    def _text(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """[B,T,D] of every token, padding too, and [B,D] of the whole."""
        clip = self.network.model
        keys = {"padding": "max_length", "truncation": True, "max_length": self.limit, "return_tensors": "pt"}
        ids = self.tokenizer([clean(text) for text in texts], **keys)["input_ids"].to(self.device)
        states = clip.text_model(input_ids=ids)
        return clip.text_projection(states.last_hidden_state), clip.text_projection(states.pooler_output)


@cache
def load_mps(model: str, processor: str, device: str) -> Mps:
    """A file with MPS's tensors, and the folder of the CLIP that it was made from. Raises ConfigError."""
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPConfig

    file, folder = model_file(model), model_folder(processor, "processor")
    weights = {name.removeprefix("mps."): value for name, value in load_weights(file).items()}
    weights = {name: value for name, value in weights.items() if not name.endswith("position_ids")}
    query = weights.get("cross_model.layers.0.0.fn.to_q.weight")
    if query is None:
        raise ConfigError(f"{model!r} holds no cross_model.layers.0.0.fn.to_q.weight, expected the tensors of MPS", "model")
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("cross_model.layers."))
    config, tokenizer, settings = (pretrained(kind, folder, "processor") for kind in (CLIPConfig, AutoTokenizer, AutoImageProcessor))
    network = Network(config, query.shape[0] // HEAD, layers)
    fill(network, {name: value.float() for name, value in weights.items()}, file)
    tokenizer.padding_side = "right"
    limit = config.text_config.max_position_embeddings
    network = network.eval().requires_grad_(False).to(device)
    return Mps(network, tokenizer, transformers_preprocess(settings, processor), limit, device)
