"""Wan 2.1 and 2.2, text-to-video and image-to-video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from vlreward.config import Count
from vlreward.data.media import Picture
from vlreward.errors import ConfigError, DataError
from vlreward.flow.math import TRAIN_STEPS
from vlreward.flow.models.base import Condition
from vlreward.flow.models.pipeline import gathered, spread
from vlreward.flow.models.video import VideoGenerator, keeping
from vlreward.pieces import divided_now
from vlreward.registry import register

WORDS = 512
"""Tokens of a prompt, where diffusers parts them from a picture's features."""


@register("wan")
@dataclass(kw_only=True)
class Wan(VideoGenerator):
    """A WanPipeline folder, of one transformer (2.1, 2.2-5B) or of two experts (2.2-A14B). Guidance is classifier-free.

    Its usual scheduler is a multistep solver; rollouts and evaluation here are Euler steps along that scheduler's shift.
    """

    prompt_tokens: Count = 512
    """Length of a prompt, padded or cut."""

    pipeline = "wan.pipeline_wan:WanPipeline"
    encoders = ("text_encoder",)
    feed_forward = ("ffn.net.0.proj", "ffn.net.2")

    def network(self) -> nn.Module:
        low, boundary = self.pipe.transformer_2, self.pipe.config.boundary_ratio
        return super().network() if low is None else Experts(self.pipe.transformer, low, boundary * TRAIN_STEPS)

    @property
    def patch(self) -> int:
        return self.pipe.transformer.config.patch_size[1]

    def encode(self, prompts: Sequence[str]) -> Condition:
        tokens, _ = self.pipe.encode_prompt(list(prompts), do_classifier_free_guidance=False, max_sequence_length=self.prompt_tokens)
        return {"tokens": tokens.cpu()}

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        timestep = s * TRAIN_STEPS
        if self.pipe.config.expand_timesteps:
            timestep = timestep[:, None].expand(-1, x.shape[2] * self.tokens)
        return self.transform(x, timestep=timestep, encoder_hidden_states=condition["tokens"])

    def latents(self, x0: torch.Tensor) -> torch.Tensor:
        return spread(self.pipe.vae, x0)

    def gathered(self, latents: torch.Tensor) -> torch.Tensor:
        return gathered(self.pipe.vae, latents)

    def export(self, folder: Path) -> None:
        """The second expert's weights go to the folder `transformer_2` inside; diffusers reads them with load_into_transformer_2."""
        if not isinstance(self.net, Experts):
            super().export(folder)
            return
        self.write(self.net.high, folder)
        self.write(self.net.low, folder / "transformer_2")

    def restore(self, folder: Path) -> None:
        if not isinstance(self.net, Experts):
            super().restore(folder)
            return
        self.read(self.net.high, folder)
        self.read(self.net.low, folder / "transformer_2")


@register("wan_image")
@dataclass(kw_only=True)
class WanImage(Wan):
    """A WanImageToVideoPipeline folder of one transformer (2.1, 2.2-5B) or two experts (2.2-A14B); each sample's first picture is the
    clip's first frame, resized to its size. Guidance as of Wan.

    2.2-5B keeps the first frame instead of making it: its velocity leads straight to the picture, and nothing is learned there.
    """

    pipeline = "wan.pipeline_wan_i2v:WanImageToVideoPipeline"
    encoders = ("text_encoder", "image_encoder")
    edits = True
    given: ClassVar[int] = 1
    """Frames of a clip that pictures are given for."""

    def check(self) -> None:
        super().check()
        config = self.pipe.transformer.config
        if config.image_dim and self.prompt_tokens != WORDS:
            problem = f"is {self.prompt_tokens}, expected {WORDS}, behind which this model has its pictures' features"
            raise ConfigError(problem, "generator.prompt_tokens")
        taken = self.given
        if config.image_dim:
            taken = 2 if config.pos_embed_seq_len else 1
        elif self.pipe.config.expand_timesteps:
            taken = 1
        if taken != self.given:
            problem = f"is {self.model!r}, to which {taken} of a clip's frames can be given; kind {self.kind!r} gives {self.given}"
            raise ConfigError(problem, "generator.model")
        if self.frames < self.given:
            raise ConfigError(f"is {self.frames}, fewer than the {self.given} that are given", "generator.frames")

    @property
    def channels(self) -> int:
        return self.pipe.vae.config.z_dim

    def encode_sources(self, prompt: str, sources: Sequence[Picture]) -> Condition:
        vae, kept = self.pipe.vae, self.pipe.config.expand_timesteps
        if len(sources) != self.given:
            raise DataError(f"the sample {prompt!r}: has {len(sources)} pictures, but kind {self.kind!r} is given {self.given}")
        clip = torch.cat([self.still(source) for source in sources], 2)
        if not kept:
            between = clip.new_zeros(1, 3, self.frames - self.given, *clip.shape[-2:])
            clip = torch.cat([clip[:, :, :1], between, clip[:, :, 1:]], 2)
        latents = gathered(vae, vae.encode(clip).latent_dist.mode())
        if not kept:
            known = latents.new_zeros(1, self.pace, *latents.shape[2:])
            known[:, :, 0] = 1
            if self.given == 2:
                known[:, -1, -1] = 1
            latents = torch.cat([known, latents], 1)
        more = {}
        if self.pipe.transformer.config.image_dim:
            features = self.pipe.encode_image([source.pil for source in sources])
            more = {"image": features.flatten(0, 1).unsqueeze(0).cpu()}
        return {**self.encode([prompt]), "source": latents.cpu(), **more}

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        source, more = condition["source"], {"encoder_hidden_states": condition["tokens"]}
        if "image" in condition:
            more["encoder_hidden_states_image"] = condition["image"].unflatten(1, (self.given, -1)).flatten(0, 1)
        if not self.pipe.config.expand_timesteps:
            return self.transform(torch.cat([x, source.to(x)], 1), timestep=s * TRAIN_STEPS, **more)
        timestep = (s * TRAIN_STEPS)[:, None].repeat(1, x.shape[2] * self.tokens)
        timestep[:, : self.tokens] = 0
        v = self.transform(torch.cat([source.to(x), x[:, :, 1:]], 2), timestep=timestep, **more)
        return keeping(source, x, s, v)


@register("wan_first_last")
@dataclass(kw_only=True)
class WanFirstLast(WanImage):
    """A WanImageToVideoPipeline folder of 2.1-FLF2V or 2.2-A14B; each sample's two pictures are the clip's first frame and its last,
    resized to its size. Guidance as of Wan."""

    several = True
    given = 2


class Experts(nn.Module):
    """Two transformers as one network with one LoRA: `high` computes the rows whose timestep is at the boundary or above.

    Where processes share the weights or their gradients (`agree` is given then), each of them computes with an expert that any of them has
    rows for, on a row whose result counts for nothing where it has none: else the others would wait for ever.
    """

    agree: Callable[[Sequence[bool]], list[bool]] | None = None
    """Which of several things hold in any process, of those that hold in this one."""

    def __init__(self, high: Any, low: Any, boundary: float):
        super().__init__()
        self.high, self.low, self.boundary = high, low, boundary
        self._no_split_modules = high._no_split_modules  # what FSDP divides, each on its own

    def forward(self, return_dict: bool = False, **inputs: torch.Tensor) -> tuple[torch.Tensor]:
        timestep = inputs["timestep"]
        noisy = timestep.flatten(1)[:, 0] if timestep.ndim > 1 else timestep
        noisy = noisy >= self.boundary
        asked = [bool(noisy.any()), not bool(noisy.all())]
        if self.agree and (torch.is_grad_enabled() or divided_now(self)):
            asked = self.agree(asked)
        if sum(asked) == 1:
            return (self.high if asked[0] else self.low)(**inputs, return_dict=return_dict)
        made = [self._part(net, rows, inputs) for net, rows in ((self.high, noisy), (self.low, ~noisy))]
        back = torch.cat([noisy.nonzero(), (~noisy).nonzero()]).flatten().argsort()
        return (torch.cat(made)[back],)

    def _part(self, net: nn.Module, rows: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The velocity of these rows; of no row, from a pass that leads nowhere."""
        taken = rows if rows.any() else torch.arange(len(rows), device=rows.device) == 0
        made = net(**{name: value[taken] for name, value in inputs.items()}, return_dict=False)[0]
        return made if rows.any() else made[:0]

    @property
    def peft_config(self) -> dict[str, Any]:
        return self.high.peft_config

    def _both(self, method: str, *args: Any, **more: Any) -> None:
        for net in (self.high, self.low):
            getattr(net, method)(*args, **more)

    def add_adapter(self, config: Any, adapter_name: str) -> None:
        self._both("add_adapter", config, adapter_name=adapter_name)

    def set_adapter(self, name: str) -> None:
        self._both("set_adapter", name)

    def enable_adapters(self) -> None:
        self._both("enable_adapters")

    def disable_adapters(self) -> None:
        self._both("disable_adapters")

    def enable_gradient_checkpointing(self) -> None:
        self._both("enable_gradient_checkpointing")
