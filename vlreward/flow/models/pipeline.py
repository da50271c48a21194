"""What all adapters of diffusers pipelines share: loading, a LoRA, the sigma grid, decoding and export."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import nn

from vlreward.config import Bound, locate
from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.flow.models.base import Generator
from vlreward.flow.policies import PREFIX

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""Attention layers of a transformer with a text and a picture stream, by diffusers' names."""
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")
"""Its feed-forward layers."""
ONE_STREAM = ("proj_mlp", "proj_out")
"""Those of FLUX.1's later blocks, in which the two streams are one."""


@dataclass(kw_only=True)
class PipelineGenerator(Generator):
    """A diffusers pipeline; its transformer is trained through a LoRA, or whole where `lora` is 0.

    LoRA targets, alpha = 2 rank and the Gaussian start follow Flow-GRPO's SD3.5 configuration (yifan123/flow_grpo). A subclass names its
    pipeline and its transformer's layers, and defines `encode` and `velocity`; where its latents are other than [C,H,W], more.
    """

    lora: Annotated[int, Bound(0)] = 32
    """Rank; 0 trains the whole transformer."""
    targets: Literal["attention", "linear"] = "attention"
    """`linear` adapts the feed-forward layers too."""
    adapter: str | None = None
    """Folder of a LoRA to start from, as a run exports it (`runs/<name>/lora`); of this rank and these layers."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Of forward passes on a GPU; a CPU always computes in fp32."""
    recompute: bool = False
    """Compute activations anew in the backward pass instead of keeping them: less memory, one more forward pass."""

    pipeline: ClassVar[str]
    """Where the pipeline's class is: 'module:Class' below diffusers.pipelines."""
    encoders: ClassVar[tuple[str, ...]]
    """The pipeline's text encoders, by name."""
    attention: ClassVar[tuple[str, ...]] = ATTENTION
    feed_forward: ClassVar[tuple[str, ...]]
    """Layers of a block that `linear` adds to `attention`; ends of their names, as those are."""

    def load(self, device: str) -> None:
        half = self.precision == "bf16" and torch.device(device).type == "cuda"
        self._dtype = torch.bfloat16 if half else torch.float32
        self._autocast = torch.autocast("cuda", torch.bfloat16, enabled=half)
        module, name = self.pipeline.split(":")
        kind = getattr(importlib.import_module(f"diffusers.pipelines.{module}"), name)
        try:
            self.pipe: Any = kind.from_pretrained(str(locate(self.model)), dtype=self._dtype, **self.left_out())
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(f"is {self.model!r}, which is no readable {name} ({reason})", "generator.model") from error
        self.pipe.to(device)
        for part in self.pipe.components.values():
            if isinstance(part, nn.Module):
                part.requires_grad_(False).eval()
        self.net = self.network()  # type: ignore[misc]
        self.check()
        self._prepare(self.net)
        if self.adapter:
            self.restore(locate(self.adapter))

    def left_out(self) -> Mapping[str, None]:
        """Parts of the pipeline that are not loaded."""
        return {}

    def network(self) -> nn.Module:
        """What is trained, frozen still."""
        return self.pipe.transformer

    def _prepare(self, net: Any) -> None:
        """Add the LoRA; what is trained is kept in float32."""
        if self.lora:
            from peft import LoraConfig

            from vlreward.flow.lora import fuse

            ends = tuple(f".{name}" for name in (*self.attention, *(self.feed_forward if self.targets == "linear" else ())))
            layers = self.pipe.transformer.named_modules()
            chosen = [name for name, layer in layers if isinstance(layer, nn.Linear) and name.endswith(ends)]
            config = LoraConfig(r=self.lora, lora_alpha=2 * self.lora, init_lora_weights="gaussian", target_modules=chosen)
            net.add_adapter(config, adapter_name=f"{PREFIX}train")
            fuse(net)
        else:
            net.requires_grad_(True)
        for weight in net.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
        if self.recompute:
            net.enable_gradient_checkpointing()
        net.train()

    def check(self) -> None:
        """Raise ConfigError where the sizes asked for do not fit the model."""
        step = self.scale * self.patch
        if self.pixels % step:
            raise ConfigError(f"is {self.pixels}, expected a multiple of {step} for this model", "generator.pixels")

    @property
    def scale(self) -> int:
        """Pixels on a side of one latent."""
        return self.pipe.vae_scale_factor

    @property
    def patch(self) -> int:
        """Latents on a side of one of the transformer's tokens."""
        return 2

    @property
    def channels(self) -> int:
        """Of a latent."""
        return self.pipe.transformer.config.in_channels

    @property
    def guidance_is_input(self) -> bool:
        return bool(self.pipe.transformer.config.get("guidance_embeds"))

    def transform(self, x: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """What the transformer makes of `hidden_states` x [B,*] and its other inputs, in float32."""
        with self._autocast:
            return self.net(hidden_states=x.to(self._dtype), return_dict=False, **inputs)[0].float()

    def networks(self) -> list[nn.Module]:
        return [part for part in self.pipe.components.values() if isinstance(part, nn.Module)]

    def drop_encoders(self) -> None:
        for name in self.encoders:
            setattr(self.pipe, name, None)

    def shape(self) -> tuple[int, ...]:
        side = self.pixels // self.scale
        return self.channels, side, side

    @property
    def tokens(self) -> int:
        """Of one sample in the transformer."""
        return self.shape()[-2] * self.shape()[-1] // self.patch**2

    def schedule(self, steps: int) -> dict[str, float]:
        config = self.pipe.scheduler.config
        terminal = {"terminal": config.shift_terminal} if config.get("shift_terminal") else {}
        if not config.get("use_dynamic_shifting"):
            return {"shift": config.get("shift", config.get("flow_shift")), **terminal}
        few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        return {"mu": low + (high - low) * (self.tokens - few) / (many - few), **terminal}

    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        vae = self.pipe.vae
        latents = (x0 / vae.config.scaling_factor + vae.config.shift_factor).to(vae.dtype)
        return unit(vae.decode(latents, return_dict=False)[0])

    def latents_of(self, pictures: torch.Tensor) -> torch.Tensor:
        config = self.pipe.vae.config
        return (encoded(self.pipe.vae, pictures) - config.shift_factor) * config.scaling_factor

    def export(self, folder: Path) -> None:
        """The active LoRA as `pytorch_lora_weights.safetensors`, or the whole transformer."""
        self.write(self.net, folder)

    def restore(self, folder: Path) -> None:
        """Put an exported LoRA in place. Raises ConfigError where there is none that fits."""
        self.read(self.net, folder)

    def read(self, net: Any, folder: Path) -> None:
        """One transformer's part of `restore`."""
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        file = folder / "pytorch_lora_weights.safetensors"
        if not self.lora or not file.is_file():
            found = f"{file} is missing" if self.lora else "lora is 0"
            raise ConfigError(f"is {self.adapter!r}, expected a folder with an exported LoRA ({found})", "generator.adapter")
        state = {key.removeprefix("transformer."): weight for key, weight in load_file(file).items()}
        try:
            left = set_peft_model_state_dict(net, state, adapter_name=net.active_adapters()[0]).unexpected_keys
        except RuntimeError as error:
            left = [str(error).strip().splitlines()[-1].strip()]
        own = sum("lora_" in key for key in dict(net.named_parameters()))
        if left or len(state) != own:
            reason = left[0] if left else f"{len(state)} weights, expected {own}"
            raise ConfigError(f"is {self.adapter!r}, whose LoRA is of other layers or another rank ({reason})", "generator.adapter")

    @property
    def format(self) -> Any:
        """The class of diffusers that writes LoRAs as the pipeline reads them."""
        return type(self.pipe)

    def write(self, net: Any, folder: Path) -> None:
        """One transformer's part of `export`."""
        if not self.lora:
            net.save_pretrained(folder)
            return
        from peft import get_peft_model_state_dict

        name = net.active_adapters()[0]
        layers, metadata = get_peft_model_state_dict(net, adapter_name=name), net.peft_config[name].to_dict()
        self.format.save_lora_weights(folder, transformer_lora_layers=layers, transformer_lora_adapter_metadata=metadata)


@dataclass(kw_only=True)
class PackedGenerator(PipelineGenerator):
    """A pipeline whose transformer sees the latents [C,H,W] packed: 2 x 2 of them as one token; where it edits, before its source's."""

    @property
    def channels(self) -> int:
        return self.pipe.transformer.config.in_channels // 4

    def transform(self, x: torch.Tensor, source: torch.Tensor | None = None, **inputs: Any) -> torch.Tensor:
        tokens = pack(x)
        seen = tokens if source is None else torch.cat([tokens, source.to(tokens)], 1)
        return unpack(super().transform(seen, **inputs)[:, : tokens.shape[1]], *x.shape[-2:])

    def prepared(self, source: Picture, height: int, width: int) -> torch.Tensor:
        """[1,3,H,W] in [-1, 1]: a source picture in this size, as the autoencoder takes it."""
        vae, image = self.pipe.vae, self.pipe.image_processor
        return image.preprocess(image.resize(source.pil, height, width), height, width).to(vae.device, vae.dtype)


def unit(decoded: torch.Tensor) -> torch.Tensor:
    """[-1, 1] of an autoencoder in any precision -> float32 in [0, 1]."""
    return (decoded.float() / 2 + 0.5).clamp(0, 1)


def encoded(vae: Any, pictures: torch.Tensor) -> torch.Tensor:
    """What an autoencoder makes of pictures in [0, 1], in float32: the mode, without its noise."""
    return vae.encode((2 * pictures - 1).to(vae.dtype)).latent_dist.mode().float()


def spread(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents [B,C,F,H,W] of mean 0 and deviation 1 a channel -> what an autoencoder with `latents_mean` and `latents_std` decodes."""
    mean, std = (torch.tensor(per, device=latents.device).view(1, -1, 1, 1, 1) for per in (vae.config.latents_mean, vae.config.latents_std))
    return (latents * std + mean).to(vae.dtype)


def gathered(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """The inverse of `spread`, float32."""
    mean, std = (torch.tensor(per, device=latents.device).view(1, -1, 1, 1, 1) for per in (vae.config.latents_mean, vae.config.latents_std))
    return (latents.float() - mean) / std


def pack(latents: torch.Tensor) -> torch.Tensor:
    """[B,C,H,W] -> [B,HW/4,4C]: 2 x 2 latents become one token, channels first."""
    return torch.nn.functional.pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)


def unpack(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The inverse of `pack`, to latents of this height and width."""
    folded = tokens.transpose(1, 2).unflatten(2, (height // 2, width // 2))
    return torch.nn.functional.pixel_shuffle(folded, 2)
