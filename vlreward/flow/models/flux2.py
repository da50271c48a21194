"""FLUX.2: dev, whose guidance is distilled, and klein."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vlreward.config import Count
from vlreward.flow.models.base import Condition
from vlreward.flow.models.pipeline import ATTENTION, PipelineGenerator, encoded, unit
from vlreward.registry import register


@register("flux2")
@dataclass(kw_only=True)
class Flux2(PipelineGenerator):
    """A Flux2Pipeline folder (dev). Guidance is an input of the network where it was distilled, else classifier-free.

    Latents are [4C,H/2,W/2], normalised a channel by the autoencoder's batch statistics. The sigma grid depends on the number of steps.
    """

    prompt_tokens: Count = 512
    """Length of a prompt with its template, padded or cut."""

    pipeline = "flux2.pipeline_flux2:Flux2Pipeline"
    encoders = ("text_encoder",)
    attention = (*ATTENTION, "to_qkv_mlp_proj", "attn.to_out")
    feed_forward = ("linear_in", "linear_out")

    @property
    def scale(self) -> int:
        return 2 * self.pipe.vae_scale_factor

    @property
    def patch(self) -> int:
        return 1

    def schedule(self, steps: int) -> dict[str, float]:
        from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

        return {"mu": compute_empirical_mu(image_seq_len=self.tokens, num_steps=steps)}

    def encode(self, prompts: Sequence[str]) -> Condition:
        tokens, _ = self.pipe.encode_prompt(list(prompts), max_sequence_length=self.prompt_tokens)
        return {"tokens": tokens.cpu()}

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        height, width = x.shape[-2:]
        v = self.transform(
            x.flatten(2).transpose(1, 2),
            timestep=s,
            guidance=condition.get("guidance"),
            encoder_hidden_states=condition["tokens"],
            txt_ids=places(1, 1, condition["tokens"].shape[1]).to(x.device),
            img_ids=places(height, width, 1).to(x.device),
        )
        return v.transpose(1, 2).unflatten(2, (height, width))

    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        vae, (mean, std) = self.pipe.vae, self.statistics()
        return unit(vae.decode(torch.nn.functional.pixel_shuffle(x0 * std + mean, 2).to(vae.dtype), return_dict=False)[0])

    def latents_of(self, pictures: torch.Tensor) -> torch.Tensor:
        mean, std = self.statistics()
        return (torch.nn.functional.pixel_unshuffle(encoded(self.pipe.vae, pictures), 2) - mean) / std

    def statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of each channel, [1,4C,1,1]."""
        vae = self.pipe.vae
        mean, variance = (of.float().view(1, -1, 1, 1) for of in (vae.bn.running_mean, vae.bn.running_var))
        return mean, (variance + vae.config.batch_norm_eps).sqrt()


@register("flux2_klein")
@dataclass(kw_only=True)
class Flux2Klein(Flux2):
    """A Flux2KleinPipeline folder. Guidance is classifier-free; the distilled checkpoints are made for guidance 1."""

    pipeline = "flux2.pipeline_flux2_klein:Flux2KleinPipeline"


def places(rows: int, columns: int, words: int) -> torch.Tensor:
    """[rows*columns*words, 4]: (0, row, column, word) of each token."""
    return torch.cartesian_prod(*(torch.arange(count) for count in (1, rows, columns, words)))
