"""FLUX.1 (dev and schnell), FLUX.1 Kontext, and models of the same shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch

from vlreward.config import Bound
from vlreward.data.media import Picture
from vlreward.flow.models.base import Condition
from vlreward.flow.models.pipeline import FEED_FORWARD, ONE_STREAM, PackedGenerator, pack
from vlreward.registry import register


@register("flux")
@dataclass(kw_only=True)
class Flux(PackedGenerator):
    """A FluxPipeline folder. Guidance is an input of the network where it was distilled (dev), else classifier-free."""

    t5_tokens: Annotated[int, Bound(1, 512)] = 512
    """Length of the T5 part of a prompt."""

    pipeline = "flux.pipeline_flux:FluxPipeline"
    encoders = ("text_encoder", "text_encoder_2")
    feed_forward = (*FEED_FORWARD, *ONE_STREAM)

    def encode(self, prompts: Sequence[str]) -> Condition:
        tokens, pooled, _ = self.pipe.encode_prompt(list(prompts), max_sequence_length=self.t5_tokens)
        return {"tokens": tokens.cpu(), "pooled": pooled.cpu()}

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        source = condition.get("source")
        grids = [places(x.shape[-2] // 2, x.shape[-1] // 2, x.device, first) for first in range(1 if source is None else 2)]
        return self.transform(
            x,
            source,
            timestep=s,
            guidance=condition.get("guidance"),
            encoder_hidden_states=condition["tokens"],
            pooled_projections=condition["pooled"],
            txt_ids=torch.zeros(condition["tokens"].shape[1], 3, device=x.device),
            img_ids=torch.cat(grids),
        )


@register("flux_kontext")
@dataclass(kw_only=True)
class FluxKontext(Flux):
    """A FluxKontextPipeline folder, which edits each sample's first picture. Guidance as of Flux.

    The source is resized to the square that is made (the pipeline by itself takes it to about a megapixel, whatever it makes).
    """

    pipeline = "flux.pipeline_flux_kontext:FluxKontextPipeline"
    edits = True

    def encode_sources(self, prompt: str, sources: Sequence[Picture]) -> Condition:
        vae, [source] = self.pipe.vae, sources
        latents = vae.encode(self.prepared(source, self.pixels, self.pixels)).latent_dist.mode().float()
        return {**self.encode([prompt]), "source": pack((latents - vae.config.shift_factor) * vae.config.scaling_factor).cpu()}


def places(height: int, width: int, device: torch.device, first: int = 0) -> torch.Tensor:
    """[height*width, 3] float32: (`first`, row, column) of each token."""
    grid = torch.cartesian_prod(torch.tensor([first]), torch.arange(height), torch.arange(width))
    return grid.float().to(device)
