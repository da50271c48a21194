"""HunyuanVideo-1.5, text-to-video and image-to-video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vlreward.config import Count
from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.flow.math import TRAIN_STEPS
from vlreward.flow.models.base import Condition
from vlreward.flow.models.pipeline import FEED_FORWARD
from vlreward.flow.models.video import VideoGenerator
from vlreward.registry import register


@register("hunyuan_video15")
@dataclass(kw_only=True)
class HunyuanVideo15(VideoGenerator):
    """A HunyuanVideo15Pipeline folder. Guidance is classifier-free; words in quotation marks are read letter by letter, too.

    Its pipeline loads no LoRA; `pipe.transformer.load_lora_adapter(folder, use_safetensors=True)` does.
    """

    prompt_tokens: Count = 1000
    """Length of the language model's part of a prompt, padded or cut."""

    pipeline = "hunyuan_video1_5.pipeline_hunyuan_video1_5:HunyuanVideo15Pipeline"
    encoders = ("text_encoder", "text_encoder_2")
    feed_forward = FEED_FORWARD

    def check(self) -> None:
        super().check()
        if self.pipe.transformer.config.use_meanflow:
            raise ConfigError(f"is {self.model!r}, which was distilled to jump between two times; no such is supported", "generator.model")
        self.pipe.tokenizer_max_length = self.prompt_tokens
        self.pipe.vae.enable_slicing()  # diffusers lays out its attention's mask for one clip alone

    @property
    def patch(self) -> int:
        return self.pipe.transformer.config.patch_size

    @property
    def channels(self) -> int:
        return self.pipe.vae.config.latent_channels

    def encode(self, prompts: Sequence[str]) -> Condition:
        encoded = self.pipe.encode_prompt(list(prompts), batch_size=len(prompts))
        parts = [part.cpu() for pair in (encoded[:2], encoded[2:]) for part in used(*pair)]
        return dict(zip(("tokens", "mask", "letters", "letters_mask"), parts, strict=True))

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Without a picture, the room for its latents is 0, and there are no features of it."""
        first, image = condition.get("source"), condition.get("image")
        known = torch.zeros_like(torch.cat([x, x[:, :1]], 1))
        if first is not None:
            known[:, :-1, :1], known[:, -1:, :1] = first.to(x), 1
        if image is None:
            image = x.new_zeros(len(x), 0, self.pipe.vision_states_dim, dtype=self._dtype)
        return self.transform(
            torch.cat([x, known], 1),
            timestep=s * TRAIN_STEPS,
            encoder_hidden_states=condition["tokens"],
            encoder_attention_mask=condition["mask"],
            encoder_hidden_states_2=condition["letters"],
            encoder_attention_mask_2=condition["letters_mask"],
            image_embeds=image,
        )

    @property
    def format(self) -> Any:
        from diffusers.loaders.lora_pipeline import HunyuanVideoLoraLoaderMixin

        return HunyuanVideoLoraLoaderMixin


@register("hunyuan_video15_image")
@dataclass(kw_only=True)
class HunyuanVideo15Image(HunyuanVideo15):
    """A HunyuanVideo15ImageToVideoPipeline folder; each sample's first picture is the clip's first frame. Guidance and LoRA as of
    HunyuanVideo15.

    The picture's middle is cut to the clip's shape (the pipeline by itself chooses the clip's shape by the picture's).
    """

    pipeline = "hunyuan_video1_5.pipeline_hunyuan_video1_5_image2video:HunyuanVideo15ImageToVideoPipeline"
    encoders = ("text_encoder", "text_encoder_2", "image_encoder")
    edits = True

    def encode_sources(self, prompt: str, sources: Sequence[Picture]) -> Condition:
        pipe, [source], (height, width, _) = self.pipe, sources, self.size()
        seen = pipe.video_processor.resize(source.pil, height=height, width=width, resize_mode="crop")
        image = pipe.encode_image(seen, 1, pipe.vae.device, self._dtype)
        latents = self.gathered(pipe.vae.encode(self.still(Picture(seen))).latent_dist.mode().float())
        return {**self.encode([prompt]), "source": latents.cpu(), "image": image.cpu()}


def used(tokens: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [B,L,C] and their mask [B,L], as truth values, without the places that are padding in every row."""
    places = mask.any(0)
    return tokens[:, places], mask[:, places].bool()
