"""What critics learn that give a distribution: of a score, or over levels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import nn

from vlreward.config import Bound, NotNegative, Positive, locate
from vlreward.critics.heads.ordinal import better_chance
from vlreward.critics.heads.uncertain import probit
from vlreward.critics.losses.base import CriticLoss
from vlreward.critics.verdicts import Batch, Verdicts
from vlreward.errors import ConfigError, DataError
from vlreward.registry import register


@register("uncertain_pairs")
@dataclass(kw_only=True)
class UncertainPairs(CriticLoss):
    """-log of the chance that the better one's draw is the better one, in closed form (see the head `uncertain`).

    Source: HPSv3 (arXiv 2508.03789) averages -log sigmoid over draws, and EditReward (arXiv 2509.26346) does; this is -log of the average.
    """

    reads = ("deviation",)

    def __call__(self, verdicts: Verdicts, batch: Batch, network: nn.Module | None, critic: nn.Module) -> torch.Tensor | None:
        better, worse = batch.pairs()
        return F.softplus(-probit(verdicts, better, worse)).mean() if len(better) else None


@register("ordinal_pairs")
@dataclass(kw_only=True)
class OrdinalPairs(CriticLoss):
    """-log of the chance that the better one's level is higher, an equal one counting half.

    With `regions`, scores that were given in [0, 1] say in which of so many equal parts of the levels each attempt lies, and only what of
    the joint distribution lies in both parts counts, the better one's level above the other's: mass is drawn into the parts.

    Source: OPRM and its region flooding tuning (arXiv 2602.12660); the form of the regions is our reading of it.
    """

    regions: Annotated[int, Bound(0)] = 0
    reads = ("levels",)

    def __call__(self, verdicts: Verdicts, batch: Batch, network: nn.Module | None, critic: nn.Module) -> torch.Tensor | None:
        better, worse = batch.pairs()
        if not len(better):
            return None
        assert verdicts.levels is not None, "an ordinal head gives levels"
        first, second = verdicts.levels[better], verdicts.levels[worse]
        if not self.regions:
            return -better_chance(first.exp(), second.exp()).clamp(min=1e-12).log().mean()
        count = first.shape[1]
        inside = in_region(batch.truth, count, self.regions)
        level = torch.arange(count, device=first.device)
        both = inside[better][:, :, None] & inside[worse][:, None, :]
        above = both & (level[:, None] > level)
        allowed = torch.where(above.flatten(1).any(1)[:, None, None], above, both)
        joint = (first[:, :, None] + second[:, None, :]).masked_fill(~allowed, -float("inf"))
        return -joint.flatten(1).logsumexp(1).mean()


@register("level_scores")
@dataclass(kw_only=True)
class LevelScores(CriticLoss):
    """Direct supervision of a distribution over levels: of each attempt by itself, and of the gaps between attempts at one sample.

    Scores given in [0, 1] are spread over the levels; each attempt's distribution is held to a normal one about its level (cross-entropy),
    and the gap of two mean levels to theirs (squared, in units of the whole range).

    Source: the pointwise and pairwise parts of group-wise direct score optimisation, Z-Reward (arXiv 2606.09076). Its third part, a policy
    gradient on reasons that were written before the score, is `train-vlm` with this critic's mean level as the reward.
    """

    pairs: NotNegative = 1.0
    """Weight of the gaps."""
    width: Positive = 0.5
    """Deviation of the normal distribution, in levels."""
    reads = ("levels",)

    def __call__(self, verdicts: Verdicts, batch: Batch, network: nn.Module | None, critic: nn.Module) -> torch.Tensor | None:
        levels = verdicts.levels
        assert levels is not None, "an ordinal head gives levels"
        place = levels_of(batch.truth, levels.shape[1])
        values = torch.arange(levels.shape[1], device=levels.device)
        wanted = torch.softmax(-(values - place[:, None]).square() / (2 * self.width**2), 1)
        single = -(wanted * levels).sum(1).mean()
        better, worse = batch.pairs()
        if not len(better):
            return single
        span = levels.shape[1] - 1
        away = ((verdicts.scores[better] - verdicts.scores[worse]) - (place[better] - place[worse])) / span
        return single + self.pairs * away.square().mean()


@register("distilled_levels")
@dataclass(kw_only=True)
class DistilledLevels(CriticLoss):
    """KL divergence of the critic's levels from a teacher's: those in the comparisons' `distributions`, or of a critic that is at hand.

    The teacher may have reasoned before it scored; the student learns the distribution that came of it and scores at once.

    Source: reasoning-internalised score distillation, Z-Reward (arXiv 2606.09076).
    """

    teacher: Path | None = None
    """The folder of a critic with as many levels; None reads `distributions`."""
    reads = ("levels",)

    def __call__(self, verdicts: Verdicts, batch: Batch, network: nn.Module | None, critic: nn.Module) -> torch.Tensor | None:
        levels = verdicts.levels
        assert levels is not None, "an ordinal head gives levels"
        wanted = self._given(batch, levels) if self.teacher is None else self._told(batch)
        if wanted.shape != levels.shape:
            raise ConfigError(f"has {wanted.shape[1]} levels, but the critic {levels.shape[1]}", "losses.teacher")
        return F.kl_div(levels, wanted.to(levels), reduction="batchmean")

    def _given(self, batch: Batch, levels: torch.Tensor) -> torch.Tensor:
        rows = batch.facts("distributions")
        for row, rollout in zip(rows, batch.rollouts, strict=True):
            sound = row is not None and len(row) == levels.shape[1] and all(value >= 0 for value in row) and abs(sum(row) - 1) < 1e-3
            if not sound:
                raise DataError(f"{rollout.sample.id}: distributions holds {row!r}, expected {levels.shape[1]} probabilities")
        return torch.tensor(rows)

    @torch.no_grad()
    def _told(self, batch: Batch) -> torch.Tensor:
        found = self._teacher.to(batch.truth.device).judge(batch.rollouts, launch=batch.launch).levels
        if found is None:
            raise ConfigError(f"is {str(self.teacher)!r}, whose head gives no levels", "losses.teacher")
        return found.exp()

    @cached_property
    def _teacher(self) -> Any:
        from vlreward.critics.network import Critic

        return Critic.load(locate(str(self.teacher)))


def levels_of(scores: torch.Tensor, count: int) -> torch.Tensor:
    """[B] places among `count` levels, from 0 on, of scores in [0, 1]. Raises DataError for others."""
    if bool((scores < 0).any() | (scores > 1).any()):
        raise DataError(f"scores from {scores.min():g} to {scores.max():g} were given, but levels are learned from scores in [0, 1]")
    return scores * (count - 1)


def in_region(scores: torch.Tensor, count: int, regions: int) -> torch.Tensor:
    """[B,count] bool: whether a level lies in the part of the levels that a score in [0, 1] belongs to."""
    if regions > count:
        raise ConfigError(f"is {regions}, more than the {count} levels", "losses.regions")
    place = levels_of(scores, count) / (count - 1)
    mine = (place * regions).long().clamp(max=regions - 1)
    part = torch.arange(count, device=scores.device) * regions // count
    return part == mine[:, None]
