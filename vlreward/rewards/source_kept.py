"""Is what nobody asked to change still there after an edit?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch

from vlreward.config import Bound, Positive
from vlreward.data.media import Picture
from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.base import Reward
from vlreward.rewards.motions import frames_of
from vlreward.types import Rollout


@register("source_kept")
@dataclass(kw_only=True)
class SourceKept(Reward):
    """Share of the source picture's pixels that an edit leaves alike, in units of `enough`, at most 1. In [0, 1].

    The source is the sample's first visual, resized to what was made; of a clip, its first frame is compared. A pixel counts
    exp(-(difference / tolerance)^2), its difference the largest of the three channels. NaN where nothing was made or there is no source.

    Source: ours; a plain form of the consistency part of editing judges (ImgEdit, arXiv 2505.20275), which ask a language model.

    Known cheats: leaving the picture as it is, which scores 1 (so does an edit that leaves `enough`: beyond it nothing is gained, and it
    must be weighed in beside a reward on what was asked for); a shift of the whole picture counts as a change, even where nobody minds.
    """

    enough: Annotated[float, Bound(0, 1, above=True)] = 0.7
    """Share of the pixels beyond which nothing is gained."""
    tolerance: Positive = 0.1
    """Difference in [0, 1] at which a pixel counts 1/e."""
    needs = ("visual",)

    def one(self, rollout: Rollout) -> float:
        if rollout.made is None or not rollout.sample.visuals:
            return float("nan")
        source, made = rollout.sample.visuals[0], frames_of(rollout)[0]
        if not isinstance(source, Picture):
            raise DataError("the sample holds a clip, expected the picture that was edited")
        wanted = Picture(source.pil.resize(made.size, 1)) if source.size != made.size else source
        difference = (wanted.tensor - made.tensor.detach().cpu()).abs().amax(0)
        kept = torch.exp(-((difference / self.tolerance) ** 2)).mean().item()
        return min(1.0, kept / self.enough)
