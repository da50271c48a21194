"""Qwen-Image, Qwen-Image-Edit and Qwen-Image-Edit-Plus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vlreward.config import Count
from vlreward.data.media import Picture
from vlreward.flow.models.base import Condition
from vlreward.flow.models.pipeline import PackedGenerator, encoded, gathered, pack, spread, unit, unpack
from vlreward.flow.models.shapes import Shape, by_shapes
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
        return self.seeing(x, s, condition)

    def seeing(self, x: torch.Tensor, s: torch.Tensor, condition: Condition, shapes: Sequence[Shape] = ()) -> torch.Tensor:
        """`velocity` of rows whose sources have these shapes."""
        made = (x.shape[-2] // 2, x.shape[-1] // 2)
        return self.transform(
            x,
            condition.get("source"),
            timestep=s,
            encoder_hidden_states=condition["tokens"],
            encoder_hidden_states_mask=condition["mask"],
            img_shapes=[[(1, *shape) for shape in (made, *shapes)]] * len(x),
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

    def encode_sources(self, prompt: str, sources: Sequence[Picture]) -> Condition:
        vae = self.pipe.vae
        shown, pictures = zip(*map(self.seen, sources), strict=True)
        tokens, mask = self.pipe.encode_prompt([prompt], image=list(shown))
        mask = torch.ones(tokens.shape[:2]) if mask is None else mask
        latents = [gathered(vae, vae.encode(picture.unsqueeze(2)).latent_dist.mode()).squeeze(2) for picture in pictures]
        return {
            "tokens": tokens.cpu(),
            "mask": mask.bool().cpu(),
            "source": torch.cat([pack(each) for each in latents], 1).cpu(),
            "shapes": torch.tensor([[(each.shape[-2] // 2, each.shape[-1] // 2) for each in latents]]),
        }

    def seen(self, source: Picture) -> tuple[Any, torch.Tensor]:
        """What the language model sees of a picture (PIL), and the autoencoder ([1,3,H,W] in [-1, 1])."""
        shown = self.pipe.image_processor.resize(source.pil, self.pixels, self.pixels)
        return shown, self.prepared(source, self.pixels, self.pixels)

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        return by_shapes(self.seeing, x, s, condition)


@register("qwen_image_edit_plus")
@dataclass(kw_only=True)
class QwenImageEditPlus(QwenImageEdit):
    """A QwenImageEditPlusPipeline folder (Qwen-Image-Edit-2509, -2511), which makes one picture of all of each sample's. Guidance as of
    QwenImage.

    Each source keeps its shape: the language model sees it at 384 x 384 pixels, as the pipeline shows it, and the autoencoder at as many as
    are made (the pipeline by itself takes it to about a megapixel, whatever it makes). Samples with one and with several pictures mix.
    """

    pipeline = "qwenimage.pipeline_qwenimage_edit_plus:QwenImageEditPlusPipeline"
    several = True

    def seen(self, source: Picture) -> tuple[Any, torch.Tensor]:
        from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import CONDITION_IMAGE_SIZE, calculate_dimensions

        ratio = source.pil.width / source.pil.height
        small, large = (calculate_dimensions(area, ratio)[::-1] for area in (CONDITION_IMAGE_SIZE, self.pixels**2))
        return self.pipe.image_processor.resize(source.pil, *small), self.prepared(source, *large)
