"""Qwen-Image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vlreward.config import Count
from vlreward.flow.models.base import Condition
from vlreward.flow.models.pipeline import PackedGenerator, encoded, gathered, pack, spread, unit, unpack
from vlreward.registry import register


@register("qwen_image")
@dataclass(kw_only=True)
class QwenImage(PackedGenerator):
    """A QwenImagePipeline folder. Guidance is classifier-free, and each token keeps the length of its conditional velocity."""

    prompt_tokens: Count = 512
    """Longer prompts are cut."""

    pipeline = "qwenimage.pipeline_qwenimage:QwenImagePipeline"
    encoders = ("text_encoder",)
    feed_forward = ("img_mlp.net.0.proj", "img_mlp.net.2", "txt_mlp.net.0.proj", "txt_mlp.net.2")

    def encode(self, prompts: Sequence[str]) -> Condition:
        tokens, mask = self.pipe.encode_prompt(list(prompts), max_sequence_length=self.prompt_tokens)
        mask = torch.ones(tokens.shape[:2]) if mask is None else mask
        return {"tokens": tokens.cpu(), "mask": mask.bool().cpu()}

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        height, width = x.shape[-2:]
        return self.transform(
            x,
            timestep=s,
            encoder_hidden_states=condition["tokens"],
            encoder_hidden_states_mask=condition["mask"],
            img_shapes=[[(1, height // 2, width // 2)]] * len(x),
        )

    def combine(self, conditional: torch.Tensor, unconditional: torch.Tensor, guidance: float) -> torch.Tensor:
        wanted = pack(conditional).norm(dim=-1, keepdim=True)
        guided = pack(super().combine(conditional, unconditional, guidance))
        return unpack(guided * (wanted / guided.norm(dim=-1, keepdim=True)), *conditional.shape[-2:])

    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        vae = self.pipe.vae
        return unit(vae.decode(spread(vae, x0.unsqueeze(2)), return_dict=False)[0][:, :, 0])

    def latents_of(self, pictures: torch.Tensor) -> torch.Tensor:
        return gathered(self.pipe.vae, encoded(self.pipe.vae, pictures.unsqueeze(2)))[:, :, 0]
