"""Stable Diffusion 3 and 3.5, and models of the same shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch

from vlreward.config import Bound
from vlreward.flow.math import TRAIN_STEPS
from vlreward.flow.models.base import Condition
from vlreward.flow.models.pipeline import FEED_FORWARD, PipelineGenerator
from vlreward.registry import register


@register("sd3")
@dataclass(kw_only=True)
class StableDiffusion3(PipelineGenerator):
    """A StableDiffusion3Pipeline folder."""

    t5_tokens: Annotated[int, Bound(0)] = 256
    """Length of the T5 part of a prompt; 0 leaves that encoder out, as a model made without one needs."""

    pipeline = "stable_diffusion_3.pipeline_stable_diffusion_3:StableDiffusion3Pipeline"
    encoders = ("text_encoder", "text_encoder_2", "text_encoder_3")
    feed_forward = FEED_FORWARD

    def left_out(self) -> Mapping[str, None]:
        return {} if self.t5_tokens else {"text_encoder_3": None, "tokenizer_3": None}

    @property
    def patch(self) -> int:
        return self.pipe.transformer.config.patch_size

    def encode(self, prompts: Sequence[str]) -> Condition:
        tokens, _, pooled, _ = self.pipe.encode_prompt(
            list(prompts), None, None, do_classifier_free_guidance=False, max_sequence_length=self.t5_tokens
        )
        return {"tokens": tokens.cpu(), "pooled": pooled.cpu()}

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        return self.transform(
            x, timestep=s * TRAIN_STEPS, encoder_hidden_states=condition["tokens"], pooled_projections=condition["pooled"]
        )
