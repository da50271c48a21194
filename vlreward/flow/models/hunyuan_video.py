"""HunyuanVideo, text-to-video and image-to-video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from vlreward.config import Count
from vlreward.data.media import Picture
from vlreward.flow.math import TRAIN_STEPS
from vlreward.flow.models.base import Condition
from vlreward.flow.models.pipeline import FEED_FORWARD, ONE_STREAM
from vlreward.flow.models.video import VideoGenerator, keeping
from vlreward.registry import register


@register("hunyuan_video")
@dataclass(kw_only=True)
class HunyuanVideo(VideoGenerator):
    """A HunyuanVideoPipeline folder. Guidance is an input of the network where it was distilled, else classifier-free."""

    prompt_tokens: Count = 256
    """Length of the language model's part of a prompt, padded or cut."""

    pipeline = "hunyuan_video.pipeline_hunyuan_video:HunyuanVideoPipeline"
    encoders = ("text_encoder", "text_encoder_2")
    feed_forward = (*FEED_FORWARD, *ONE_STREAM)

    @property
    def patch(self) -> int:
        return self.pipe.transformer.config.patch_size

    def encode(self, prompts: Sequence[str]) -> Condition:
        tokens, pooled, mask = self.pipe.encode_prompt(list(prompts), max_sequence_length=self.prompt_tokens)
        return {"tokens": tokens.cpu(), "pooled": pooled.cpu(), "mask": mask.cpu()}

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        return self.transform(
            x,
            timestep=s * TRAIN_STEPS,
            guidance=condition["guidance"] * TRAIN_STEPS if "guidance" in condition else None,
            encoder_hidden_states=condition["tokens"],
            encoder_attention_mask=condition["mask"].to(self._dtype),
            pooled_projections=condition["pooled"],
        )


@register("hunyuan_video_image")
@dataclass(kw_only=True)
class HunyuanVideoImage(HunyuanVideo):
    """A HunyuanVideoImageToVideoPipeline folder; each sample's first picture is the clip's first frame, resized to its size.

    HunyuanVideo-I2V keeps that frame (its guidance is an input): its velocity leads straight to the picture, and nothing is learned there.
    I2V-33ch sees the picture beside the noise; its guidance is classifier-free, away from a black picture without a prompt, and the first
    four frames of what is decoded are cut off, before `frames` are left. Both start from plain noise (the pipeline mixes a thousandth of
    the picture into it).
    """

    pipeline = "hunyuan_video.pipeline_hunyuan_video_image2video:HunyuanVideoImageToVideoPipeline"
    edits = True

    @property
    def kept(self) -> bool:
        return self.pipe.transformer.config.image_condition_type == "token_replace"

    @property
    def cut(self) -> int:
        """Frames that are decoded and left out."""
        return 0 if self.kept else 4

    @property
    def channels(self) -> int:
        return self.pipe.vae.config.latent_channels

    def shape(self) -> tuple[int, ...]:
        channels, frames, *sides = super().shape()
        return channels, frames + self.cut // self.pace, *sides

    def encode_sources(self, prompt: str, sources: Sequence[Picture]) -> Condition:
        [source], (height, width, _) = sources, self.size()
        tokens, pooled, mask = self.pipe.encode_prompt(
            source.pil if prompt else Image.new("RGB", (width, height)),
            [prompt],
            max_sequence_length=self.prompt_tokens,
            image_embed_interleave=4 if self.kept else 2,
        )
        latents = self.gathered(self.pipe.vae.encode(self.still(source)).latent_dist.mode().float())
        return {"tokens": tokens.cpu(), "pooled": pooled.cpu(), "mask": mask.cpu(), "source": latents.cpu()}

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        first = condition["source"].to(x)
        if self.kept:
            return keeping(first, x, s, super().velocity(torch.cat([first, x[:, :, 1:]], 2), s, condition))
        known = torch.cat([first, torch.ones_like(first[:, :1])], 1)
        known = torch.nn.functional.pad(known, (0, 0, 0, 0, 0, x.shape[2] - 1))
        return super().velocity(torch.cat([x, known], 1), s, condition)

    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        return super().decode(x0)[:, self.cut :]

    def latents_of(self, pictures: torch.Tensor) -> torch.Tensor:
        """Where frames are cut off, the first stands still before them."""
        still = pictures[:, :1].expand(-1, self.cut, -1, -1, -1)
        return super().latents_of(torch.cat([still, pictures], 1))
