"""FLUX.2: dev, whose guidance is distilled, and klein; from words alone, or with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vlreward.config import Count
from vlreward.data.media import Picture
from vlreward.flow.models.base import Condition
from vlreward.flow.models.pipeline import ATTENTION, PipelineGenerator, encoded, unit
from vlreward.flow.models.shapes import Shape, by_shapes
from vlreward.registry import register

APART = 10
"""Between the first coordinates of a source's tokens and the next one's; that of what is made is 0."""


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
        return self.seeing(x, s, condition)

    def seeing(self, x: torch.Tensor, s: torch.Tensor, condition: Condition, shapes: Sequence[Shape] = ()) -> torch.Tensor:
        """`velocity` of rows whose sources have these shapes."""
        height, width = x.shape[-2:]
        made, source = x.flatten(2).transpose(1, 2), condition.get("source")
        grids = [places(rows, columns, 1, APART * k) for k, (rows, columns) in enumerate([(height, width), *shapes])]
        v = self.transform(
            made if source is None else torch.cat([made, source.to(made)], 1),
            timestep=s,
            guidance=condition.get("guidance"),
            encoder_hidden_states=condition["tokens"],
            txt_ids=places(1, 1, condition["tokens"].shape[1]).to(x.device),
            img_ids=torch.cat(grids).to(x.device),
        )
        return v[:, : height * width].transpose(1, 2).unflatten(2, (height, width))

    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        vae, (mean, std) = self.pipe.vae, self.statistics()
        return unit(vae.decode(torch.nn.functional.pixel_shuffle(x0 * std + mean, 2).to(vae.dtype), return_dict=False)[0])

    def latents_of(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.gathered(encoded(self.pipe.vae, pictures))

    def gathered(self, latents: torch.Tensor) -> torch.Tensor:
        """What the autoencoder encodes to, as the network has it."""
        mean, std = self.statistics()
        return (torch.nn.functional.pixel_unshuffle(latents, 2) - mean) / std

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


@register("flux2_edit")
@dataclass(kw_only=True)
class Flux2Edit(Flux2):
    """A Flux2Pipeline folder (dev) which makes one picture of all of each sample's. Guidance as of Flux2.

    Each source keeps its shape; one of more pixels than are made is made as small (the pipeline's limit is a megapixel, whatever it makes).
    Samples with one and with several pictures mix.
    """

    edits = True
    several = True

    def encode_sources(self, prompt: str, sources: Sequence[Picture]) -> Condition:
        latents = [self.gathered(self.pipe.vae.encode(self.seen(source)).latent_dist.mode().float()) for source in sources]
        return {
            **self.encode([prompt]),
            "source": torch.cat([each.flatten(2).transpose(1, 2) for each in latents], 1).cpu(),
            "shapes": torch.tensor([[tuple(each.shape[-2:]) for each in latents]]),
        }

    def seen(self, source: Picture) -> torch.Tensor:
        """[1,3,H,W] in [-1, 1]: a source as the autoencoder takes it."""
        image, vae, shown, most = self.pipe.image_processor, self.pipe.vae, source.pil, self.pixels**2
        if shown.width * shown.height > most:
            shown = image._resize_to_target_area(shown, most)
        height, width = (side // self.scale * self.scale for side in (shown.height, shown.width))
        return image.preprocess(shown, height=height, width=width, resize_mode="crop").to(vae.device, vae.dtype)

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        return by_shapes(self.seeing, x, s, condition)


@register("flux2_klein_edit")
@dataclass(kw_only=True)
class Flux2KleinEdit(Flux2Edit):
    """A Flux2KleinPipeline folder which makes one picture of all of each sample's, as of Flux2Edit; guidance as of Flux2Klein."""

    pipeline = Flux2Klein.pipeline


def places(rows: int, columns: int, words: int, first: int = 0) -> torch.Tensor:
    """[rows*columns*words, 4]: (`first`, row, column, word) of each token."""
    return torch.cartesian_prod(torch.tensor([first]), *(torch.arange(count) for count in (rows, columns, words)))
