"""HunyuanVideo text-to-video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vlreward.config import Count
from vlreward.flow.math import TRAIN_STEPS
from vlreward.flow.models.base import Condition
from vlreward.flow.models.pipeline import FEED_FORWARD, ONE_STREAM
from vlreward.flow.models.video import VideoGenerator
from vlreward.registry import register


@register("hunyuan_video")
@dataclass(kw_only=True)
class HunyuanVideo(VideoGenerator):
    """A HunyuanVideoPipeline folder. Guidance is an input of the network where it was distilled, else classifier-free."""

    prompt_tokens: Count = 256
    """Length of the language model's part of a prompt, padded or cut."""

    pipeline = "hunyuan_video.pipeline_hunyuan_video:HunyuanVideoPipeline"
    encoders = ("text_encoder", "text_encoder_2")
    feed_forward = (*FEED_FORWARD, *ONE_STREAM)

    @property
    def patch(self) -> int:
        return self.pipe.transformer.config.patch_size

    def encode(self, prompts: Sequence[str]) -> Condition:
        tokens, pooled, mask = self.pipe.encode_prompt(list(prompts), max_sequence_length=self.prompt_tokens)
        return {"tokens": tokens.cpu(), "pooled": pooled.cpu(), "mask": mask.cpu()}

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        return self.transform(
            x,
            timestep=s * TRAIN_STEPS,
            guidance=condition["guidance"] * TRAIN_STEPS if "guidance" in condition else None,
            encoder_hidden_states=condition["tokens"],
            encoder_attention_mask=condition["mask"].to(self._dtype),
            pooled_projections=condition["pooled"],
        )
