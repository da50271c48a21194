"""What adapters of video pipelines share: clip sizes, latents [C,F,H,W] and their decoding, and first frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlreward.config import Count
from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.flow.math import wide
from vlreward.flow.models.pipeline import PipelineGenerator, encoded, unit


@dataclass(kw_only=True)
class VideoGenerator(PipelineGenerator):
    """A video pipeline; `pixels` is the height of its clips."""

    width: Count | None = None
    """In pixels; None is as wide as high."""
    frames: Count = 33
    """Of a clip: a multiple of the autoencoder's step in time, and one more."""

    def check(self) -> None:
        step = self.scale * self.patch
        for name, value in (("pixels", self.pixels), ("width", self.width or self.pixels)):
            if value % step:
                raise ConfigError(f"is {value}, expected a multiple of {step} for this model", f"generator.{name}")
        if (self.frames - 1) % self.pace:
            low = self.frames - (self.frames - 1) % self.pace
            raise ConfigError(f"is {self.frames}, expected one more than a multiple of {self.pace}, as {low} is", "generator.frames")

    @property
    def scale(self) -> int:
        return self.pipe.vae_scale_factor_spatial

    @property
    def pace(self) -> int:
        """Frames of one latent in time, but for the first."""
        return self.pipe.vae_scale_factor_temporal

    def shape(self) -> tuple[int, ...]:
        return self.channels, (self.frames - 1) // self.pace + 1, self.pixels // self.scale, (self.width or self.pixels) // self.scale

    def latents(self, x0: torch.Tensor) -> torch.Tensor:
        """[B,C,F,H,W] as the autoencoder takes them."""
        return (x0 / self.pipe.vae.config.scaling_factor).to(self.pipe.vae.dtype)

    def gathered(self, latents: torch.Tensor) -> torch.Tensor:
        """The inverse of `latents`."""
        return latents * self.pipe.vae.config.scaling_factor

    def size(self) -> tuple[int, ...]:
        return self.pixels, self.width or self.pixels, self.frames

    def latents_of(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.gathered(encoded(self.pipe.vae, pictures.transpose(1, 2)))

    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        return unit(self.pipe.vae.decode(self.latents(x0), return_dict=False)[0]).transpose(1, 2)

    def still(self, source: Picture) -> torch.Tensor:
        """[1,3,1,H,W] in [-1, 1]: a source picture resized to the clip's size, as the autoencoder takes it."""
        vae, (height, width, _) = self.pipe.vae, self.size()
        return self.pipe.video_processor.preprocess(source.pil, height=height, width=width).to(vae.device, vae.dtype).unsqueeze(2)


def keeping(first: torch.Tensor, x: torch.Tensor, s: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """v [B,C,F,H,W] but for the first frame, where it leads straight to the latents `first` [B,C,1,H,W] and nothing is learned."""
    return torch.cat([(x[:, :, :1] - first) / wide(s, x), v[:, :, 1:]], 2)
