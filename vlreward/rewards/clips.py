"""Any picture reward over the frames of a clip."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from vlreward.config import Count, NotNegative
from vlreward.data.media import Picture
from vlreward.errors import ConfigError, DataError
from vlreward.registry import register
from vlreward.rewards.base import Reward
from vlreward.rewards.motions import frames_of
from vlreward.types import RewardOutput, Rollout


@register("per_frame")
@dataclass(kw_only=True)
class PerFrame(Reward):
    """A picture reward over the frames of a clip: their mean, weighted mean, or worst. In the bounds of `of`; gradient as of `of`.

    `segments: 4` judges one frame of each quarter instead of all frames: a sparse, cheap reward; which frame follows from the clip's own
    pixels, so that none is always left out and the same clip always scores the same. `attenuation` weighs frames by
    exp(-attenuation * distance from the middle / half the clip). A frame that `of` does not apply to is left out; a frame that it breaks
    on breaks the row. A picture is a clip of one frame.

    Source: InstructVideo (arXiv 2312.12490): four segments with a random frame in each, and attenuation 1 a frame, which is half the
    number of frames here. It divides by the number of frames instead of the weights, a constant factor.

    Known cheats: those of `of` in every frame; with `over: mean`, a few bad frames between good ones (use `min`); with attenuation, bad
    ends (weigh in an unattenuated term of weight 0 and watch it); a clip that stands still, which scores like its picture (weigh in
    `motion_match`, or `motion_smoothness`, which asks for motion).
    """

    of: Reward
    over: Literal["mean", "min"] = "mean"
    segments: Count | None = None
    attenuation: NotNegative = 0.0

    def __post_init__(self):
        if self.of.scope == "group":
            raise ConfigError(f"is {self.of.kind!r}, which compares rollouts of a group, expected a reward of pictures", "of")
        if self.over == "min" and self.attenuation:
            raise ConfigError(f"is {self.attenuation:g}, expected 0 with over 'min', which weighs nothing", "attenuation")
        self.bounds, self.differentiable = self.of.bounds, self.of.differentiable  # type: ignore[misc]
        self.needs = tuple(dict.fromkeys(("visual", *self.of.needs)))  # type: ignore[misc]

    def load(self, device: str) -> None:
        self._device = device

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        flat: list[Rollout] = []
        rows: list[tuple[int, list[int], torch.Tensor]] = []
        errors: list[str | None] = []
        for row, rollout in enumerate(rollouts):
            try:
                frames = frames_of(rollout)
                chosen = self.chosen(frames)
            except DataError as error:
                errors.append(str(error))
                continue
            errors.append(None)
            middle = (len(frames) - 1) / 2
            distance = torch.tensor([abs(place - middle) / max(middle, 1) for place in chosen], dtype=torch.float64)
            rows.append((row, list(range(len(flat), len(flat) + len(chosen))), -self.attenuation * distance))
            flat += [replace(rollout, made=frames[place]) for place in chosen]
        judged = self.of.score(flat, self._device)
        scores = [torch.tensor(float("nan"), dtype=torch.float64)] * len(rollouts)
        for row, places, exponent in rows:
            errors[row] = next((judged.errors[place] for place in places if judged.errors[place]), None)
            score = judged.scores[places].double()
            applies = ~score.isnan()
            if errors[row] is None and applies.any():
                kept, weight = score[applies], exponent.to(score.device)[applies].softmax(0)
                scores[row] = kept.min() if self.over == "min" else (kept * weight).sum()
        device = judged.scores.device
        return RewardOutput(scores=torch.stack([score.to(device) for score in scores]), errors=errors)

    def chosen(self, frames: Sequence[Picture]) -> list[int]:
        """The frames that are judged: all, or one of each segment."""
        if self.segments is None or self.segments >= len(frames):
            return list(range(len(frames)))
        bounds = [len(frames) * k // self.segments for k in range(self.segments + 1)]
        pixels = torch.stack([frame.tensor.detach() for frame in frames])
        number = zlib.crc32((pixels.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy().tobytes())
        rng = np.random.default_rng(number)
        return [int(rng.integers(low, high)) for low, high in itertools.pairwise(bounds)]
