"""Does a made picture keep what a reference picture and words say together?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from vlreward.config import Count, NotNegative
from vlreward.errors import ConfigError, DataError
from vlreward.models.folders import frozen, pretrained, transformers_folder
from vlreward.models.text_encoder import clean
from vlreward.registry import register
from vlreward.rewards.base import Reward, explain
from vlreward.rewards.objects import judged_picture
from vlreward.types import RewardOutput, Rollout


@register("visual_consistency")
@dataclass(kw_only=True)
class VisualConsistency(Reward):
    """Mean, by weights, of how near picture and description are as wholes and of how surely they match in detail, by BLIP-2. In [0, 1].

    The description is `target.context`, what a vision-language model says of the reference picture in view of the words, else the prompt.
    `semantic` is the cosine of description and picture, best over the picture's queries, moved to [0, 1]; `detail` the probability of a
    match when the queries attend to the words. Parts: both.

    Source: Hummingbird, arXiv 2502.05153: Global Semantic and Fine-grained Consistency Rewards, which are BLIP-2's contrastive and
    matching heads (arXiv 2301.12597). Reads transformers' Blip2ForImageTextRetrieval, such as Salesforce/blip2-itm-vit-g (MIT).

    Known cheats: the description written into the picture (weigh in a reward on OCR); what the description leaves out is free (describe
    fully, or pair it with `source_kept`).
    """

    model: str
    semantic: NotNegative = 1.0
    detail: NotNegative = 1.0
    size: Count = 16
    """Pictures at a time."""
    needs = ("visual",)

    def __post_init__(self):
        if not self.semantic + self.detail:
            raise ConfigError("is 0 like `semantic`, so that nothing is measured", "detail")

    def load(self, device: str) -> None:
        self._model, self._processor = load_matcher(self.model, device)

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        nothing = torch.full((len(rollouts),), float("nan"), dtype=torch.float64)
        output = RewardOutput(scores=nothing, parts={"semantic": nothing.clone(), "detail": nothing.clone()})
        pairs: dict[int, tuple[Any, str]] = {}
        for row, rollout in enumerate(rollouts):
            context = rollout.sample.target.get("context", rollout.sample.prompt)
            try:
                if not isinstance(context, str):
                    raise DataError(f"target.context is {str(context)[:60]!r}, expected a text")
                pairs[row] = (judged_picture(rollout).pil, clean(context))
            except DataError as error:
                output.errors[row] = explain(error)
        rows = sorted(pairs, key=lambda row: len(pairs[row][1]))
        for first in range(0, len(rows), self.size):
            chosen = rows[first : first + self.size]
            semantic, detail = self.measured([pairs[row] for row in chosen])
            output.parts["semantic"][chosen], output.parts["detail"][chosen] = semantic, detail
            output.scores[chosen] = (self.semantic * semantic + self.detail * detail) / (self.semantic + self.detail)
        return output

    @torch.no_grad()
    def measured(self, pairs: Sequence[tuple[Any, str]]) -> tuple[torch.Tensor, torch.Tensor]:
        """[B] cosine moved to [0, 1], and [B] probability of a match"""
        pictures, texts = zip(*pairs, strict=True)
        pixels = self._processor.image_processor(images=list(pictures), return_tensors="pt")
        words = self._processor.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        inputs = {"pixel_values": pixels["pixel_values"], "input_ids": words["input_ids"], "attention_mask": words["attention_mask"]}
        inputs = {name: value.to(self._model.device) for name, value in inputs.items()}
        near = self._model(**inputs, use_image_text_matching_head=False).logits_per_image.diagonal()
        match = self._model(**inputs, use_image_text_matching_head=True).logits_per_image.float().softmax(1)[:, 1]
        return (near.double().cpu().clamp(-1, 1) + 1) / 2, match.double().cpu()


@cache
def load_matcher(model: str, device: str) -> tuple[Any, Any]:
    """Model and processor of a transformers folder. Raises ConfigError."""
    from transformers import AutoProcessor, Blip2ForImageTextRetrieval

    folder = transformers_folder(model)
    network = frozen(Blip2ForImageTextRetrieval, folder, device)
    network.config.image_token_index = None  # the words are given without places for the picture
    return network, pretrained(AutoProcessor, folder)
