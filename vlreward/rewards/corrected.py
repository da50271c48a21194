"""A task's reward, held to account by a judge of quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlreward.registry import register
from vlreward.rewards.base import Reward
from vlreward.types import RewardOutput, Rollout


@register("corrected_score")
@dataclass(kw_only=True)
class CorrectedScore(Reward):
    """`of` * (`quality` - `neutral`) + `shift`: a task's reward, once a judge of quality has looked too.

    In [-1.8, 2.2] for `of` in [0, 1] and the paper's judge. Below `shift` where quality is worse than `neutral`: the more a picture was
    bent to please `of`, the lower it then falls. To watch (weight 0) how much of a gain is hacking, rather than to train on. A judge on
    another scale needs another `neutral`: its score of pictures that are neither good nor bad.

    Source: the corrected score of GDRO, arXiv 2601.02036, with UnifiedReward in [1, 5], `neutral` 3 and `shift` 0.2.

    Known cheats: whatever fools `of` and `quality` at once (take a judge of quality that is not trained on).
    """

    of: Reward
    quality: Reward
    neutral: float = 3.0
    shift: float = 0.2

    def __post_init__(self):
        corners = [a * (b - self.neutral) + self.shift for a in self.of.bounds for b in self.quality.bounds]
        finite = all(corner == corner for corner in corners)
        self.bounds = (min(corners), max(corners)) if finite else (-float("inf"), float("inf"))  # type: ignore[misc]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        task, quality = self.of.score(rollouts), self.quality.score(rollouts)
        return RewardOutput(
            scores=task.scores.double() * (quality.scores.double() - self.neutral) + self.shift,
            parts={"task": task.scores, "quality": quality.scores},
            notes=["; ".join(filter(None, pair)) for pair in zip(task.notes, quality.notes, strict=True)],
            errors=[a or b for a, b in zip(task.errors, quality.errors, strict=True)],
            marks=task.marks,
        )
