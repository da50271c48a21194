"""LTX-2, text-to-video and image-to-video: clips with sound, of which the picture is judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from vlreward.config import Bound, Count, Positive
from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.flow.math import TRAIN_STEPS, wide
from vlreward.flow.models.base import Condition
from vlreward.flow.models.pipeline import ATTENTION, unit
from vlreward.flow.models.video import VideoGenerator
from vlreward.registry import register


@register("ltx2")
@dataclass(kw_only=True)
class Ltx2(VideoGenerator):
    """An LTX2Pipeline folder. Guidance is classifier-free, the same for picture and sound; the pipeline's guidance by skipped blocks and
    by isolated modalities is left out.

    Picture and sound look at each other, so both are denoised: latents are [P + S], the picture's in front. Only the picture is decoded;
    the sound's part of a step counts in its log-probability as the picture's does.
    """

    prompt_tokens: Count = 1024
    """Length of a prompt, padded or cut."""
    fps: Positive = 24.0
    cross_timestep: bool = True
    """As LTX-2.3 and later were trained; LTX-2.0 was without it."""

    pipeline = "ltx2.pipeline_ltx2:LTX2Pipeline"
    encoders = ("text_encoder", "connectors")
    attention = ATTENTION
    feed_forward = ("ff.net.0.proj", "ff.net.2", "audio_ff.net.0.proj", "audio_ff.net.2")

    def check(self) -> None:
        super().check()
        if self.pipe.vae.config.timestep_conditioning:
            raise ConfigError(f"is {self.model!r}, whose autoencoder adds noise before it decodes; no such is supported", "generator.model")

    @property
    def scale(self) -> int:
        return self.pipe.vae_spatial_compression_ratio

    @property
    def pace(self) -> int:
        return self.pipe.vae_temporal_compression_ratio

    @property
    def patch(self) -> int:
        return 1

    @property
    def picture(self) -> tuple[int, int, int]:
        """Frames, rows and columns of the picture's latents, each of them a token."""
        return (self.frames - 1) // self.pace + 1, self.pixels // self.scale, (self.width or self.pixels) // self.scale

    @property
    def sound(self) -> tuple[int, int]:
        """Tokens of the sound, and the numbers in each."""
        pipe = self.pipe
        rate = pipe.audio_sampling_rate / pipe.audio_hop_length / pipe.audio_vae_temporal_compression_ratio
        bins = pipe.audio_vae.config.mel_bins // pipe.audio_vae_mel_compression_ratio
        return round(self.frames / self.fps * rate), pipe.audio_vae.config.latent_channels * bins

    @property
    def tokens(self) -> int:
        return math.prod(self.picture)

    def shape(self) -> tuple[int, ...]:
        return (self.tokens * self.channels + math.prod(self.sound),)

    def encode(self, prompts: Sequence[str]) -> Condition:
        words, mask, _, _ = self.pipe.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=self.prompt_tokens
        )
        tokens, sound, mask = self.pipe.connectors(words, mask, padding_side=self.pipe.tokenizer.padding_side)
        return {"tokens": tokens.cpu(), "sound": sound.cpu(), "mask": mask.cpu()}

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        (frames, height, width), (length, _), timestep = self.picture, self.sound, s * TRAIN_STEPS
        picture, sound = self.split(x)
        with self._autocast:
            both = self.net(
                hidden_states=picture.to(self._dtype),
                audio_hidden_states=sound.to(self._dtype),
                encoder_hidden_states=condition["tokens"],
                audio_encoder_hidden_states=condition["sound"],
                timestep=self.times(timestep),
                audio_timestep=timestep,
                sigma=timestep,
                encoder_attention_mask=condition["mask"],
                audio_encoder_attention_mask=condition["mask"],
                num_frames=frames,
                height=height,
                width=width,
                fps=self.fps,
                audio_num_frames=length,
                use_cross_timestep=self.cross_timestep,
                return_dict=False,
            )
        return torch.cat([part.float().flatten(1) for part in both], 1)

    def times(self, timestep: torch.Tensor) -> torch.Tensor:
        """Of the picture's tokens, [B] or [B,N]."""
        return timestep

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens of the picture [B,N,C] and of the sound [B,M,D]."""
        numbers = self.tokens * self.channels
        return x[:, :numbers].unflatten(1, (self.tokens, self.channels)), x[:, numbers:].unflatten(1, self.sound)

    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        vae = self.pipe.vae
        mean, std = (per.to(x0).view(1, -1, 1, 1, 1) for per in (vae.latents_mean, vae.latents_std))
        latents = self.split(x0)[0].transpose(1, 2).unflatten(2, self.picture)
        spread = latents * std / vae.config.scaling_factor + mean
        return unit(vae.decode(spread.to(vae.dtype), None, return_dict=False)[0]).transpose(1, 2)

    def latents_of(self, pictures: torch.Tensor) -> torch.Tensor:
        raise ConfigError("is 'ltx2', whose latents hold sound, which given clips do not tell; make them instead", "generator.kind")


@register("ltx2_image")
@dataclass(kw_only=True)
class Ltx2Image(Ltx2):
    """An LTX2ImageToVideoPipeline folder; each sample's first picture is the clip's first frame, resized to its size. Guidance as of Ltx2.

    That frame is kept instead of made: its velocity leads straight to the picture, and nothing is learned there.
    """

    crf: Annotated[int, Bound(0, 51)] | None = None
    """How coarsely H.264 compresses the picture first, as those were that the model was trained on; None is the pipeline's, 0 leaves it."""

    pipeline = "ltx2.pipeline_ltx2_image2video:LTX2ImageToVideoPipeline"
    edits = True

    @property
    def known(self) -> int:
        """Tokens of the first frame."""
        return self.tokens // self.picture[0]

    def encode_sources(self, prompt: str, sources: Sequence[Picture]) -> Condition:
        from diffusers.pipelines.ltx2.utils import apply_image_conditioning_crf, resolve_default_image_crf

        vae, [source] = self.pipe.vae, sources
        crf = resolve_default_image_crf(self.pipe.text_encoder) if self.crf is None else self.crf
        seen = Picture(apply_image_conditioning_crf(np.array(source.pil), crf))
        latents = vae.encode(self.still(seen)).latent_dist.mode().float()
        mean, std = (per.to(latents).view(1, -1, 1, 1, 1) for per in (vae.latents_mean, vae.latents_std))
        return {**self.encode([prompt]), "source": ((latents - mean) / std).flatten(2).transpose(1, 2).cpu()}

    def times(self, timestep: torch.Tensor) -> torch.Tensor:
        return timestep[:, None] * (torch.arange(self.tokens, device=timestep.device) >= self.known)

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        first = condition["source"].to(x).flatten(1)
        made = x[:, first.shape[1] :]
        v = super().velocity(torch.cat([first, made], 1), s, condition)
        return torch.cat([(x[:, : first.shape[1]] - first) / wide(s, x), v[:, first.shape[1] :]], 1)
