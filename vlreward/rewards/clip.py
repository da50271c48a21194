"""Agreement of words and picture by CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vlreward.config import Positive
from vlreward.data.media import Clip, Picture
from vlreward.errors import DataError
from vlreward.models import clip
from vlreward.registry import register
from vlreward.rewards.base import Reward, spread
from vlreward.types import RewardOutput, Rollout


@register("clip_score")
@dataclass(kw_only=True)
class ClipScore(Reward):
    """`scale` times the cosine of CLIP's picture and text features, negative ones cut to 0. In [0, scale].

    The words are what was written, else the prompt. A clip scores the mean over its frames. Gradient flows to a made picture.

    Source: CLIPScore, arXiv 2104.08718: scale 2.5, prefix "A photo depicts " and ViT-B/32; torchmetrics reports 100 times the cosine
    without the prefix. Preprocessing is done on tensors (bicubic with antialiasing), within 1/255 of PIL's.

    Known cheats: pictures with the prompt written into them (CLIP reads; weigh in `ocr_match` with an empty target or a detector);
    word order and counts hardly matter to CLIP, so relations are not judged (use `object_match`); adversarial texture found by
    following the gradient (hold out another judge); captions beyond the tokenizer's length are cut, the rest is free.
    """

    model: str = "assets/tiny-clip"
    prefix: str = ""
    scale: Positive = 2.5
    needs = ("visual",)
    differentiable = True

    def __post_init__(self):
        self.bounds = (0.0, self.scale)  # type: ignore[misc]

    def load(self, device: str) -> None:
        self._clip = clip.load_clip(self.model, device)

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        frames: list[Picture] = []
        owners: list[int] = []
        errors: list[str | None] = [None] * len(rollouts)
        for i, rollout in enumerate(rollouts):
            visual = rollout.visual
            assert visual is not None, "clip_score needs a visual"
            try:
                pictures = visual.pictures if isinstance(visual, Clip) else [visual]
                [picture.tensor for picture in pictures]
            except DataError as error:
                errors[i] = str(error)
                continue
            frames += pictures
            owners += [i] * len(pictures)
        good = [i for i, error in enumerate(errors) if error is None]
        if not good:
            return RewardOutput(scores=torch.full((len(rollouts),), float("nan"), dtype=torch.float64), errors=errors)
        wants_gradient = any(picture.tensor.requires_grad for picture in frames)
        with torch.set_grad_enabled(wants_gradient and torch.is_grad_enabled()):
            image = self._clip.image_features(frames)
            text = self._clip.text_features([self.prefix + rollouts[i].words for i in owners])
            cosine = (image * text).sum(-1).clamp(min=0, max=1).double()
            index = torch.tensor(owners, device=cosine.device)
            total = torch.zeros(len(rollouts), dtype=torch.float64, device=cosine.device).index_add(0, index, cosine)
            count = torch.bincount(index, minlength=len(rollouts)).clamp(min=1)
            scores = self.scale * total / count
        wide = spread(RewardOutput(scores=scores[good]), good, len(rollouts))
        wide.errors = errors
        return wide
