"""Length rewards whose measure is the group itself, or what was written before: how often it is solved, and how shortly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vlreward.config import Count, Fraction, NotNegative, Positive
from vlreward.errors import ConfigError
from vlreward.registry import register
from vlreward.rewards.base import by_group
from vlreward.rewards.lengths import Judged
from vlreward.types import Rollout


@dataclass(kw_only=True)
class Grouped(Judged):
    """Base of what weighs each group by itself; rows that are inapplicable or broken do not take part in it."""

    scope = "group"

    def weigh(self, right_B: torch.Tensor, length_B: torch.Tensor, rollouts: Sequence[Rollout]) -> torch.Tensor:
        scores = torch.zeros_like(right_B)
        for rows in by_group(rollouts):
            scores[rows] = self.weigh_group(right_B[rows], length_B[rows])
        return scores

    def weigh_group(self, right_G: torch.Tensor, length_G: torch.Tensor) -> torch.Tensor:
        """[G] scores of one group."""
        raise NotImplementedError(f"{type(self).__name__} must define weigh_group")


@register("solve_rate_length")
@dataclass(kw_only=True)
class SolveRateLength(Grouped):
    """1 if right, minus `weight` * length / `max` * the group's share of right answers (at least 1/G). In (-inf, 1].

    So length costs most where the task is easy.

    Source: ALP, arXiv 2506.05256 (adaptive length penalty); lengths are relative to `max` here.

    Known cheats: being wrong on purpose does not pay while `weight` * length / `max` stays below 1 (it does for `weight` < 1 within
    `max`); short wrong answers among mostly right ones (each loses its 1).

    Example: {keys: {correct: exact_match, max: 100}, text: "<answer>red</answer>", num_tokens: 50, target: {answer: red}} -> 0.95
    """

    max: Count
    weight: NotNegative = 0.1
    bounds = (-math.inf, 1.0)

    def weigh_group(self, right_G: torch.Tensor, length_G: torch.Tensor) -> torch.Tensor:
        rate = max(right_G.mean().item(), 1 / len(right_G))
        return right_G - self.weight * rate * length_G / self.max


@register("length_bonus")
@dataclass(kw_only=True)
class LengthBonus(Grouped):
    """1 if right, plus `bonus` if it is no longer than the target; 0 if wrong. In [0, 1 + bonus].

    `targets` holds one target, or three: for groups with at least 2/3, at least 1/3, and fewer right answers.

    Source: LASER and LASER-D, arXiv 2505.15612 (a step of 1/2; its code gives wrong answers -1/2). There the three targets follow
    from a validation set during training; here they are given.

    Known cheats: a wrong short answer (no bonus); failing some rollouts so that the group counts as hard and gets a longer target
    (each failure costs 1, more than a bonus of 1/2 brings).

    Example: {keys: {correct: exact_match, targets: [100]}, text: "<answer>red</answer>", num_tokens: 50, target: {answer: red}} -> 1.5
    """

    targets: tuple[Count, ...]
    bonus: Positive = 0.5

    def __post_init__(self):
        if len(self.targets) not in (1, 3):
            raise ConfigError(f"has {len(self.targets)} entries, expected 1, or 3 for easy, middling and hard groups", "targets")
        self.bounds = (0.0, 1.0 + self.bonus)  # type: ignore[misc]

    def weigh_group(self, right_G: torch.Tensor, length_G: torch.Tensor) -> torch.Tensor:
        thirds = 3 * right_G.sum().item() / len(right_G)
        target = self.targets[0 if thirds >= 2 else 1 if thirds >= 1 else 2] if len(self.targets) == 3 else self.targets[0]
        return right_G * (1 + self.bonus * (length_G <= target))


@register("shortest_correct")
@dataclass(kw_only=True)
class ShortestCorrect(Grouped):
    """`gain` if right, minus `slope` for each unit of length off the group's shortest right answer. In (-inf, gain].

    In a group without a right answer the mean length takes its place.

    Source: ShorterBetter, arXiv 2504.21370, with its gain 2 and slope 0.001.

    Known cheats: a wrong answer of the best length beats a right one that is more than gain / slope off; a lucky guess of three
    tokens becomes everyone's target (raise `gain`, or use `length_budget`).

    Example: {keys: {correct: exact_match}, text: "<answer>red</answer>", num_tokens: 50, target: {answer: red}} -> 2
    """

    gain: Positive = 2.0
    slope: Positive = 0.001

    def __post_init__(self):
        self.bounds = (-math.inf, self.gain)  # type: ignore[misc]

    def weigh_group(self, right_G: torch.Tensor, length_G: torch.Tensor) -> torch.Tensor:
        best = length_G[right_G > 0].min() if right_G.any() else length_G.mean()
        return self.gain * right_G - self.slope * (length_G - best).abs()


@register("length_history")
@dataclass(kw_only=True)
class LengthHistory(Judged):
    """1 if right, plus `weight` * cos(pi/2 * length / shortest right answer so far): beating one's own record pays. In [-weight, 1 + weight].

    The record is kept per sample id, over all batches, and with the checkpoints of a training; it moves after a batch is judged, so
    order inside of a batch does not matter. From twice the record on the cosine stays -1; a right answer loses no more than 0.7 of
    `weight`, a wrong one gains nothing by being short. Without a record the cosine counts 0.

    Source: HAPO, arXiv 2505.11225.

    Known cheats: a lucky guess sets a record that honest answers cannot reach (they lose at most 0.7 of `weight`); the score moves as
    training goes on, so it is no measure to evaluate by.

    Example: {keys: {correct: exact_match}, text: "<answer>red</answer>", num_tokens: 50, target: {answer: red}} -> 1
    """  # noqa: E501

    weight: Fraction = 1.0

    def __post_init__(self):
        self.bounds = (-self.weight, 1.0 + self.weight)  # type: ignore[misc]

    def weigh(self, right_B: torch.Tensor, length_B: torch.Tensor, rollouts: Sequence[Rollout]) -> torch.Tensor:
        scores = right_B.clone()
        for i, rollout in enumerate(rollouts):
            record = self.memory.get(rollout.sample.id)
            if record is not None:
                wave = math.cos(min(length_B[i].item() / record, 2.0) * math.pi / 2)
                scores[i] += self.weight * (max(wave, LEAST_OF_RIGHT) if right_B[i] else min(wave, 0.0))
        for i, rollout in enumerate(rollouts):
            if right_B[i] and length_B[i] > 0:
                record = self.memory.get(rollout.sample.id, math.inf)
                self.memory[rollout.sample.id] = min(record, length_B[i].item())
        return scores


LEAST_OF_RIGHT = -0.7
"""HAPO's floor for right answers, so that the worst of them stays above the best wrong one."""
