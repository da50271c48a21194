"""Another reward's score in another shape: clipped, centred, ranked, or made of steps that cannot be farmed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from scipy.stats import rankdata

from vlreward.config import Positive
from vlreward.errors import ConfigError, DataError
from vlreward.registry import register
from vlreward.rewards.base import Reward, by_group
from vlreward.types import RewardOutput, Rollout


@dataclass(kw_only=True)
class Shaped(Reward):
    """Base of what judges by another reward's score; a row that this finds inapplicable or broken stays so."""

    of: Reward

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        judged = self.of.score(rollouts)
        shaped = self.shape(judged.scores.to(torch.float64), rollouts)
        return replace(judged, scores=shaped, parts={"raw": judged.scores} | judged.parts)

    def shape(self, score_B: torch.Tensor, rollouts: Sequence[Rollout]) -> torch.Tensor:
        """[B] float64 -> [B]; NaN stays NaN"""
        raise NotImplementedError(f"{type(self).__name__} must define shape")


@register("clip")
@dataclass(kw_only=True)
class Clipped(Shaped):
    """`of`, cut to `low` and `high`. In the bounds of `of`, cut likewise.

    Gradient flows where nothing was cut.

    Source: reward clipping against over-optimisation (arXiv 2410.15115).

    Known cheats: those of `of` below the cut; above it nothing more is gained, and a group that is cut as a whole learns nothing.

    Example: {keys: {of: exact_match, high: 0.5}, text: "<answer>red</answer>", target: {answer: red}} -> 0.5
    """

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self):
        if self.low >= self.high:
            raise ConfigError(f"is {self.low:g}, expected less than high = {self.high:g}", "low")
        self.bounds = tuple(min(max(bound, self.low), self.high) for bound in self.of.bounds)  # type: ignore[misc]
        self.differentiable = self.of.differentiable  # type: ignore[misc]

    def shape(self, score_B: torch.Tensor, rollouts: Sequence[Rollout]) -> torch.Tensor:
        return score_B.clamp(self.low, self.high)


@register("centred_sigmoid")
@dataclass(kw_only=True)
class CentredSigmoid(Shaped):
    """Mean of sigmoid(`slope` * (score - reference score)) over reference answers: bounded, steepest at their level. In [0, 1].

    `reference: texts` judges `target.references`, a list of answers to the same sample, by `of`; `scores` takes their scores from
    `target.reference_scores`; a number is the reference score for every sample.

    Source: PAR, Preference As Reward (arXiv 2502.18770), with slope 1; one reference is enough there.

    Known cheats: those of `of`, though far above the references nearly nothing more is gained; weak references make all answers
    look alike near 1 (take them from the policy before training).

    Example: {keys: {of: exact_match, reference: 0.0}, text: "<answer>red</answer>", target: {answer: red}} -> 0.731
    """

    reference: Literal["texts", "scores"] | float = "texts"
    slope: Positive = 1.0

    def __post_init__(self):
        self.differentiable = self.of.differentiable  # type: ignore[misc]
        self.needs = {"texts": ("target.references",), "scores": ("target.reference_scores",)}.get(self.reference, ())  # type: ignore

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        judged = self.of.score(rollouts)
        references = self.references(rollouts)
        scores, errors = judged.scores.to(torch.float64).clone(), list(judged.errors)
        for i, found in enumerate(references):
            if isinstance(found, str):
                scores[i], errors[i] = float("nan"), errors[i] or found
            else:
                levels = torch.tensor(found, dtype=torch.float64, device=scores.device)
                scores[i] = torch.sigmoid(self.slope * (scores[i] - levels)).mean()
        return replace(judged, scores=scores, errors=errors, parts={"raw": judged.scores} | judged.parts)

    def references(self, rollouts: Sequence[Rollout]) -> list[list[float] | str]:
        """Each row's reference scores, or what is wrong with them."""
        if isinstance(self.reference, float):
            return [[self.reference]] * len(rollouts)
        known: dict[int, list[float] | str] = {}
        for rollout in rollouts:
            if id(rollout.sample) not in known:
                try:
                    known[id(rollout.sample)] = self._levels(rollout)
                except DataError as error:
                    known[id(rollout.sample)] = str(error)
        return [known[id(rollout.sample)] for rollout in rollouts]

    def _levels(self, rollout: Rollout) -> list[float]:
        target = rollout.sample.target
        if self.reference == "scores":
            given = target["reference_scores"]
            if not isinstance(given, list | tuple) or not given or not all(map(_finite, given)):
                raise DataError(f"target.reference_scores is {given!r}, expected a list of numbers")
            return [float(value) for value in given]
        texts = target["references"]
        if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
            raise DataError(f"target.references is {texts!r}, expected a list of texts")
        output = self.of.score([Rollout(sample=rollout.sample, text=text) for text in texts])
        wrong = [f"target.references[{i}] cannot be judged: {output.errors[i] or 'it lacks what the judge needs'}"
                 for i, value in enumerate(output.scores.tolist()) if math.isnan(value)]  # fmt: skip
        if wrong:
            raise DataError(wrong[0])
        return output.scores.tolist()


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


@register("rank")
@dataclass(kw_only=True)
class Rank(Shaped):
    """Place of the score among those of its group: 0 the lowest, 1 the highest, ties share the mean of their places. In [0, 1].

    A rollout alone in its group gets 1/2; rows that are inapplicable or broken do not take part.

    Source: rank-shaped rewards as in Flow-Factory's PickScoreRank, with average ranks over n - 1 (there: arbitrary order of ties, and
    a best place of (n-1)/n).

    Known cheats: none of its own; the distances that it drops are the signal, too: a group of nearly equal answers is spread as
    widely as one of good and bad ones.

    Example: {keys: {of: exact_match}, text: "<answer>red</answer>", target: {answer: red}} -> 0.5
    """

    scope = "group"

    def shape(self, score_B: torch.Tensor, rollouts: Sequence[Rollout]) -> torch.Tensor:
        scores, places = score_B.tolist(), [math.nan] * len(rollouts)
        for rows in by_group(rollouts):
            judged = [row for row in rows if not math.isnan(scores[row])]
            ranks = rankdata([scores[row] for row in judged])
            for row, rank in zip(judged, ranks.tolist(), strict=True):
                places[row] = (rank - 1) / (len(judged) - 1) if len(judged) > 1 else 0.5
        return torch.tensor(places, dtype=torch.float64)


@dataclass(kw_only=True)
class Steps(Reward):
    """Base of what reshapes the rewards of an answer's steps, the segments of `of`; the score is their sum, 0 without any."""

    of: Reward
    bounds = (-math.inf, math.inf)

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        judged = self.of.score(rollouts)
        segments, sums = [], []
        for before in judged.segments:
            ordered = sorted(before, key=lambda segment: segment.start)
            rewards = self.steps([segment.reward for segment in ordered])
            segments.append([replace(segment, reward=reward) for segment, reward in zip(ordered, rewards, strict=True)])
            sums.append(math.fsum(rewards))
        scores = torch.tensor(sums, dtype=torch.float64).masked_fill(judged.scores.isnan().cpu(), float("nan"))
        return replace(judged, scores=scores, segments=segments, parts={"raw": judged.scores} | judged.parts)

    def steps(self, rewards: list[float]) -> list[float]:
        """The steps' rewards, in the order of the text, reshaped."""
        raise NotImplementedError(f"{type(self).__name__} must define steps")


@register("step_clip")
@dataclass(kw_only=True)
class StepClip(Steps):
    """Sum over the steps of min(step's reward, `high`) - `high`: no step earns, bad ones cost. In (-inf, 0].

    The steps are the segments that `of` gives.

    Source: the Clip mechanism of arXiv 2410.15115.

    Known cheats: repeating good steps (each is worth at most 0); writing no steps at all (worth 0, the top: add a reward for the
    outcome); one long step in place of many (only how `of` cuts the text is a defence).
    """

    high: float = 0.5
    bounds = (-math.inf, 0.0)

    def steps(self, rewards: list[float]) -> list[float]:
        return [min(reward, self.high) - self.high for reward in rewards]


@register("step_delta")
@dataclass(kw_only=True)
class StepDelta(Steps):
    """Each step's reward minus the next one's; the sum is the first step's reward, however many follow. In (-inf, inf).

    The steps are the segments that `of` gives; the last one keeps its own reward, so what is earned from any step on is that step's
    reward.

    Source: the Delta mechanism of arXiv 2410.15115.

    Known cheats: repeating good steps (the sum does not grow with their number); a brilliant first step before anything (add a
    reward for the outcome).
    """

    def steps(self, rewards: list[float]) -> list[float]:
        return [reward - following for reward, following in zip(rewards, [*rewards, 0.0][1:], strict=True)]
