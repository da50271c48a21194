"""FLUX.1 (dev and schnell), and models of the same shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch

from vlreward.config import Bound
from vlreward.flow.models.base import Condition
from vlreward.flow.models.pipeline import PipelineGenerator, pack, unpack
from vlreward.registry import register


@register("flux")
@dataclass(kw_only=True)
class Flux(PipelineGenerator):
    """A FluxPipeline folder. Guidance is an input of the network where it was distilled (dev), else classifier-free.

    Latents are [C,H,W]; the network sees them packed.
    """

    t5_tokens: Annotated[int, Bound(1, 512)] = 512
    """Length of the T5 part of a prompt."""

    pipeline = "flux.pipeline_flux:FluxPipeline"
    encoders = ("text_encoder", "text_encoder_2")
    feed_forward = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp", "proj_out")

    @property
    def guidance_is_input(self) -> bool:
        return self.pipe.transformer.config.guidance_embeds

    @property
    def channels(self) -> int:
        return self.pipe.transformer.config.in_channels // 4

    def encode(self, prompts: Sequence[str]) -> Condition:
        tokens, pooled, _ = self.pipe.encode_prompt(list(prompts), max_sequence_length=self.t5_tokens)
        return {"tokens": tokens.cpu(), "pooled": pooled.cpu()}

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        height, width = x.shape[-2:]
        with self._autocast:
            v = self.net(
                hidden_states=pack(x).to(self._dtype),
                timestep=s,
                guidance=condition.get("guidance"),
                encoder_hidden_states=condition["tokens"],
                pooled_projections=condition["pooled"],
                txt_ids=torch.zeros(condition["tokens"].shape[1], 3, device=x.device),
                img_ids=places(height // 2, width // 2, x.device),
                return_dict=False,
            )[0]
        return unpack(v.float(), height, width)


def places(height: int, width: int, device: torch.device, first: int = 0) -> torch.Tensor:
    """[height*width, 3] float32: (`first`, row, column) of each token."""
    grid = torch.cartesian_prod(torch.tensor([first]), torch.arange(height), torch.arange(width))
    return grid.float().to(device)
