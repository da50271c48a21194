"""How near are the sentences of an answer, taken as a set, to those of a reference?"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment

from vlreward.config import Count
from vlreward.models.text_encoder import load_encoder
from vlreward.registry import register
from vlreward.rewards.similarity import Embedded

Distance = Literal["chamfer", "hausdorff", "energy", "sliced_wasserstein", "assignment"]
END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
MAX_SENTENCES = 256
"""An answer with more sentences is worth 0."""


@register("sentence_sets")
@dataclass(kw_only=True)
class SentenceSets(Embedded):
    """Similarity of the set of the answer's sentences to that of `target.answer`, 1 - distance / its largest value. In [0, 1].

    Sentences become unit vectors by the encoder in the folder `model`; distances between them are Euclidean, at most 2.
    `chamfer`: mean distance to the nearest sentence of the other side, averaged over both directions. `hausdorff`: the farthest such
    distance. `energy`: the energy distance. `sliced_wasserstein`: 1-Wasserstein distance of projections on `projections` fixed random
    directions, divided by its value for two opposite points. `assignment`: mean distance under the best one-to-one matching, where an
    unmatched sentence counts 2. Of several references the nearest counts.

    Source: set distance rewards (SDR) for report generation; their names follow the abstract, their scaling to [0, 1] is ours.

    Known cheats: order of the sentences is not seen; repeating a good sentence is free in `chamfer` and `hausdorff` (use `assignment`,
    or `repetition` beside it); one sentence that is near to all (costs in all but `chamfer`'s one direction); leaving out what is
    hard (costs wherever the reference's sentences are looked at); hundreds of sentences (0 beyond 256).
    """

    distance: Distance = "assignment"
    projections: Count = 64

    def load(self, device: str) -> None:
        self._encoder = load_encoder(self.model, device)

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        sets = {text: split_sentences(text) for pair in pairs for text in pair}
        sets = {text: found if len(found) <= MAX_SENTENCES else [] for text, found in sets.items()}
        texts = list(dict.fromkeys(sentence for found in sets.values() for sentence in found))
        vectors = dict(zip(texts, self._encoder.sentences(texts).cpu().double())) if texts else {}
        stacked = {text: torch.stack([vectors[sentence] for sentence in found]) for text, found in sets.items() if found}
        return [
            set_similarity(stacked[answer], stacked[wanted], self.distance, self.projections)
            if answer in stacked and wanted in stacked
            else 0.0
            for answer, wanted in pairs
        ]


def split_sentences(text: str) -> list[str]:
    """Sentences by their end marks and by lines, without list marks; what holds no letter or digit is none."""
    pieces = (piece.strip().lstrip("-*•").strip() for piece in END.split(text))
    return [piece for piece in pieces if any(character.isalnum() for character in piece)]


def set_similarity(first_AD: torch.Tensor, second_WD: torch.Tensor, distance: Distance, projections: int = 64) -> float:
    """1 - distance / its largest value, of two sets of unit vectors. In [0, 1]."""
    apart_AW = torch.cdist(first_AD, second_WD)
    if distance == "chamfer":
        value = (apart_AW.amin(1).mean() + apart_AW.amin(0).mean()) / 2
    elif distance == "hausdorff":
        value = torch.maximum(apart_AW.amin(1).max(), apart_AW.amin(0).max())
    elif distance == "energy":
        within = torch.cdist(first_AD, first_AD).mean() + torch.cdist(second_WD, second_WD).mean()
        value = (2 * apart_AW.mean() - within).clamp(min=0).sqrt()
    elif distance == "assignment":
        rows, columns = linear_sum_assignment(apart_AW.numpy())
        larger = max(apart_AW.shape)
        value = (apart_AW[rows, columns].sum() + 2 * (larger - min(apart_AW.shape))) / larger
    else:
        value = sliced_wasserstein(first_AD, second_WD, projections) / mean_projection(first_AD.shape[1])
    return max(0.0, 1 - float(value) / 2)


def sliced_wasserstein(first_AD: torch.Tensor, second_WD: torch.Tensor, projections: int) -> torch.Tensor:
    """Mean over fixed random directions of the 1-Wasserstein distance between the projected sets; their sizes may differ."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(first_AD.shape[1], projections, generator=generator, dtype=first_AD.dtype)
    directions = directions / directions.norm(dim=0)
    first_AP, second_WP = (torch.sort(points @ directions, dim=0).values for points in (first_AD, second_WD))
    # Both quantile functions are constant between the multiples of 1/A and 1/W.
    steps = (
        torch.cat([torch.arange(1, len(points) + 1, dtype=first_AD.dtype) / len(points) for points in (first_AP, second_WP)]).sort().values
    )
    widths = torch.diff(steps, prepend=torch.zeros(1, dtype=steps.dtype))
    middles = steps - widths / 2
    picks = [(middles * len(points)).long().clamp(max=len(points) - 1) for points in (first_AP, second_WP)]
    return ((first_AP[picks[0]] - second_WP[picks[1]]).abs() * widths[:, None]).sum(0).mean()


def mean_projection(dimensions: int) -> float:
    """Expected length of a unit vector's projection on a random direction."""
    return math.exp(math.lgamma(dimensions / 2) - math.lgamma((dimensions + 1) / 2)) / math.sqrt(math.pi)
