"""Stable Diffusion 3 and 3.5, and models of the same shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from vlreward.config import Bound, locate
from vlreward.errors import ConfigError
from vlreward.flow.math import TRAIN_STEPS
from vlreward.flow.models.base import Condition, Generator
from vlreward.flow.policies import PREFIX
from vlreward.registry import register

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
LINEAR = (*ATTENTION, "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")


@register("sd3")
@dataclass(kw_only=True)
class StableDiffusion3(Generator):
    """A StableDiffusion3Pipeline folder; its transformer is trained through a LoRA, or whole where `lora` is 0.

    LoRA targets, alpha = 2 rank and the Gaussian start follow Flow-GRPO's SD3.5 configuration (yifan123/flow_grpo).
    """

    lora: Annotated[int, Bound(0)] = 32
    """Rank; 0 trains the whole transformer."""
    targets: Literal["attention", "linear"] = "attention"
    """`linear` adapts the feed-forward layers too."""
    t5_tokens: Annotated[int, Bound(0)] = 256
    """Length of the T5 part of a prompt; 0 leaves that encoder out, as a model made without one needs."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Of forward passes on a GPU; a CPU always computes in fp32."""

    def load(self, device: str) -> None:
        from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
        from peft import LoraConfig

        half = self.precision == "bf16" and torch.device(device).type == "cuda"
        dtype = torch.bfloat16 if half else torch.float32
        try:
            left_out = {} if self.t5_tokens else {"text_encoder_3": None, "tokenizer_3": None}
            self.pipe: Any = StableDiffusion3Pipeline.from_pretrained(str(locate(self.model)), dtype=dtype, **left_out)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(f"is {self.model!r}, which is no readable StableDiffusion3Pipeline ({reason})", "generator.model") from error
        step = self.pipe.vae_scale_factor * self.pipe.transformer.config.patch_size
        if self.pixels % step:
            raise ConfigError(f"is {self.pixels}, expected a multiple of {step} for this model", "generator.pixels")
        self.pipe.to(device)
        for part in (self.pipe.vae, self.pipe.text_encoder, self.pipe.text_encoder_2, self.pipe.text_encoder_3):
            if part is not None:
                part.requires_grad_(False).eval()
        net = self.net = self.pipe.transformer  # type: ignore[misc]
        self._autocast = torch.autocast("cuda", torch.bfloat16, enabled=half)
        if self.lora:
            net.requires_grad_(False)
            targets: list[str] = list(ATTENTION if self.targets == "attention" else LINEAR)
            config = LoraConfig(r=self.lora, lora_alpha=2 * self.lora, init_lora_weights="gaussian", target_modules=targets)
            net.add_adapter(config, adapter_name=f"{PREFIX}train")
        for weight in net.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
        net.train()

    def encode(self, prompts: Sequence[str]) -> Condition:
        tokens, _, pooled, _ = self.pipe.encode_prompt(
            list(prompts), None, None, do_classifier_free_guidance=False, max_sequence_length=self.t5_tokens
        )
        return {"tokens": tokens.cpu(), "pooled": pooled.cpu()}

    def drop_encoders(self) -> None:
        self.pipe.text_encoder = self.pipe.text_encoder_2 = self.pipe.text_encoder_3 = None

    def shape(self) -> tuple[int, ...]:
        side = self.pixels // self.pipe.vae_scale_factor
        return self.net.config.in_channels, side, side  # type: ignore[union-attr]

    def schedule(self) -> dict[str, float]:
        config = self.pipe.scheduler.config
        if not config.use_dynamic_shifting:
            return {"shift": config.shift}
        from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift

        tokens = (self.shape()[-1] // self.net.config.patch_size) ** 2  # type: ignore[union-attr]
        mu = calculate_shift(tokens, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift)
        return {"mu": float(mu)}

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        with self._autocast:
            return self.net(
                hidden_states=x.to(condition["tokens"].dtype),
                timestep=s * TRAIN_STEPS,
                encoder_hidden_states=condition["tokens"],
                pooled_projections=condition["pooled"],
                return_dict=False,
            )[0].float()

    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        vae = self.pipe.vae
        latents = (x0 / vae.config.scaling_factor + vae.config.shift_factor).to(vae.dtype)
        return (vae.decode(latents, return_dict=False)[0].float() / 2 + 0.5).clamp(0, 1)

    def export(self, folder: Path) -> None:
        """The active LoRA as `pytorch_lora_weights.safetensors`, or the whole transformer."""
        if not self.lora:
            self.net.save_pretrained(folder)  # type: ignore[operator]
            return
        from peft import get_peft_model_state_dict

        name = self.net.active_adapters()[0]  # type: ignore[operator]
        layers = get_peft_model_state_dict(self.net, adapter_name=name)
        metadata = self.net.peft_config[name].to_dict()  # type: ignore[index]
        type(self.pipe).save_lora_weights(folder, transformer_lora_layers=layers, transformer_lora_adapter_metadata=metadata)
