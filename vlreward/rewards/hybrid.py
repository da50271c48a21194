"""A rule and a model judge together, and a penalty on length around a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch

from vlreward.config import Bound, NotNegative, Positive
from vlreward.errors import ConfigError, DataError, RewardError
from vlreward.registry import register
from vlreward.rewards.base import Reward, by_group, explain
from vlreward.rewards.lengths import Measured
from vlreward.types import RewardOutput, Rollout


@register("confident_mix")
@dataclass(kw_only=True)
class ConfidentMix(Reward):
    """c * `rule` + (1 - c) * `model`, where c is how sure the rule is of its verdict, by `confidence`. In [0, 1].

    All three are rewards; the first two lie within [0, 1]. Where the rule does not apply c is 0, where `confidence` does not, or is left
    out, c is 1. The model is only asked about rollouts with c below 1; where it does not apply the rule counts alone. NaN where
    neither applies.

    Source: Beyond Monolithic Rewards, arXiv 2510.05283: rule-based correctness signals with confidence, complemented by a learned
    reward; how they are mixed is not public in detail, the convex mixture is ours.

    Known cheats: writing so that the rule is unsure and the model is fooled (take a `confidence` that the policy has no hand in, such as
    `sample_number`, or give the model the lower scale by `clip`); those of each part.

    Example: {keys: {rule: exact_match, model: {kind: rouge_l, tags: false}, confidence: answer_format}, text: "red it is", target: {answer: red}} -> 0.5
    """  # noqa: E501

    rule: Reward
    model: Reward
    confidence: Reward | None = None

    def __post_init__(self):
        for key in ("rule", "model"):
            reward = getattr(self, key)
            if not all(0 <= bound <= 1 for bound in reward.bounds):
                raise ConfigError(f"{reward.kind} ranges over {list(reward.bounds)}, expected a reward within [0, 1]", key)

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        ruled = self.rule.score(rollouts)
        rule = ruled.scores.to("cpu", torch.float64)
        sure, errors = torch.ones_like(rule), list(ruled.errors)
        if self.confidence:
            judged = self.confidence.score(rollouts)
            sure = judged.scores.to("cpu", torch.float64).nan_to_num(nan=1.0)
            errors = [ours or theirs for ours, theirs in zip(errors, judged.errors, strict=True)]
            for row in ((sure < 0) | (sure > 1)).nonzero().flatten().tolist():
                errors[row] = errors[row] or f"a confidence of {sure[row]:g}, expected one in [0, 1]"
        sure = sure.masked_fill(rule.isnan(), 0.0)
        asked = [row for row, c in enumerate(sure.tolist()) if c < 1 and not errors[row]]
        model = torch.full_like(rule, math.nan)
        if asked:
            answered = self.model.score([rollouts[row] for row in asked])
            model[asked] = answered.scores.to("cpu", torch.float64)
            for row, error in zip(asked, answered.errors, strict=True):
                errors[row] = error
        mixed = sure * rule.nan_to_num() + (1 - sure) * model
        scores = torch.where(model.isnan(), rule, mixed)
        notes = [f"{c:.2f} by rule {r:.2f}, else by model {m:.2f}" for c, r, m in zip(sure, rule, model, strict=True)]
        parts = {"rule": rule, "model": model, "confidence": sure}
        return replace(ruled, scores=scores, parts=parts, notes=notes, errors=errors, segments=[[] for _ in rollouts])


@register("length_penalty")
@dataclass(kw_only=True)
class LengthPenalty(Measured):
    """0 near a reference length; beyond `slack` of it minus (relative excess) ** `power`, down to -1. In [-1, 0].

    The excess is length / reference - 1 - slack. A text that is too short by more than `slack` loses `short` times (1 - slack - length /
    reference) ** `power`. `reference` is a number, `target` for `target.length`, or `group` for the mean length of the group's rollouts.

    Source: the generalised length penalty of Beyond Monolithic Rewards, arXiv 2510.05283, whose formula is not public; this family is
    ours. With `slack: 0, power: 1` a text of twice the reference loses 1; `reference: group` follows the policy as it grows shorter.

    Known cheats: an empty answer is never too long (add a reward for being right, or `short`); a whole group that grows longer
    together moves its own reference (take a number); within `slack` nothing is gained by being shorter, by design.

    Example: {keys: {reference: 10, slack: 0.2, unit: words}, text: "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"} -> -0.3
    """  # noqa: E501

    reference: Annotated[int, Bound(1)] | Literal["target", "group"]
    slack: NotNegative = 0.0
    power: Positive = 1.0
    short: NotNegative = 0.0
    bounds = (-1.0, 0.0)

    def __post_init__(self):
        if self.reference == "target":
            self.needs = ("text", "target.length")  # type: ignore[misc]
        if self.reference == "group":
            self.scope = "group"  # type: ignore[misc]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        output = RewardOutput(scores=torch.full((len(rollouts),), float("nan"), dtype=torch.float64))
        lengths: dict[int, int] = {}
        for row, rollout in enumerate(rollouts):
            try:
                lengths[row] = self.length(rollout)
            except RewardError as error:
                output.errors[row] = explain(error)
        for rows in by_group(rollouts):
            counted = [row for row in rows if row in lengths]
            mean = sum(lengths[row] for row in counted) / max(1, len(counted))
            for row in counted:
                try:
                    reference = self._reference(rollouts[row], mean)
                except DataError as error:
                    output.errors[row] = str(error)
                    continue
                output.scores[row] = self.penalty(lengths[row], reference)
                output.notes[row] = f"{lengths[row]} {self.unit}, reference {reference:g}"
        return output

    def penalty(self, length: float, reference: float) -> float:
        """What a length costs, in [-1, 0]."""
        ratio = length / reference if reference else 1.0
        over, under = max(0.0, ratio - 1 - self.slack), max(0.0, 1 - self.slack - ratio)
        return -min(1.0, min(over, 1.0) ** self.power + self.short * under**self.power)

    def _reference(self, rollout: Rollout, mean: float) -> float:
        if self.reference == "group":
            return mean
        if self.reference != "target":
            return float(self.reference)
        wanted = rollout.sample.target["length"]
        if not isinstance(wanted, int | float) or not math.isfinite(wanted) or wanted <= 0:
            raise DataError(f"target.length is {wanted!r}, expected a number above 0")
        return float(wanted)
