"""Z-Image and Z-Image-Turbo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from vlreward.config import Count
from vlreward.flow.models.base import Condition
from vlreward.flow.models.pipeline import PipelineGenerator
from vlreward.registry import register


@register("z_image")
@dataclass(kw_only=True)
class ZImage(PipelineGenerator):
    """A ZImagePipeline folder. Guidance is classifier-free.

    The pipeline counts guidance from 0: its `guidance_scale` g is 1 + g here. Turbo is distilled for guidance 1, which is its 0.
    """

    prompt_tokens: Count = 512
    """Longer prompts are cut."""

    pipeline = "z_image.pipeline_z_image:ZImagePipeline"
    encoders = ("text_encoder",)
    attention = ("to_q", "to_k", "to_v", "to_out.0")
    feed_forward = ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3")

    def encode(self, prompts: Sequence[str]) -> Condition:
        rows, _ = self.pipe.encode_prompt(list(prompts), do_classifier_free_guidance=False, max_sequence_length=self.prompt_tokens)
        mask = pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
        return {"tokens": pad_sequence(rows, batch_first=True).cpu(), "mask": mask}

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        words = [tokens[mask] for tokens, mask in zip(condition["tokens"], condition["mask"], strict=True)]
        with self._autocast:
            v = self.net(list(x.to(self._dtype).unsqueeze(2)), 1 - s, words, return_dict=False)[0]
        return -torch.stack([row.float() for row in v]).squeeze(2)
