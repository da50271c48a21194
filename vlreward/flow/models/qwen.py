"""Qwen-Image and Qwen-Image-Edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vlreward.config import Count
from vlreward.data.media import Picture
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
        source = condition.get("source")
        grid = (1, x.shape[-2] // 2, x.shape[-1] // 2)
        return self.transform(
            x,
            source,
            timestep=s,
            encoder_hidden_states=condition["tokens"],
            encoder_hidden_states_mask=condition["mask"],
            img_shapes=[[grid] * (1 if source is None else 2)] * len(x),
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


@register("qwen_image_edit")
@dataclass(kw_only=True)
class QwenImageEdit(QwenImage):
    """A QwenImageEditPipeline folder, which edits each sample's first picture. Guidance as of QwenImage.

    The source is resized to the square that is made, for the language model and the autoencoder alike (the pipeline by itself takes it to
    about a megapixel, whatever it makes).
    """

    pipeline = "qwenimage.pipeline_qwenimage_edit:QwenImageEditPipeline"
    edits = True

    def encode_source(self, prompt: str, source: Picture) -> Condition:
        vae, shown = self.pipe.vae, self.pipe.image_processor.resize(source.pil, self.pixels, self.pixels)
        tokens, mask = self.pipe.encode_prompt([prompt], image=shown)
        mask = torch.ones(tokens.shape[:2]) if mask is None else mask
        latents = gathered(vae, vae.encode(self.prepared(source).unsqueeze(2)).latent_dist.mode())
        return {"tokens": tokens.cpu(), "mask": mask.bool().cpu(), "source": pack(latents.squeeze(2)).cpu()}
