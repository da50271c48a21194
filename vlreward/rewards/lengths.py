"""Rewards on how long an answer is, alone or beside whether it is right. The count is of tokens, words or characters, as `unit` says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from vlreward.config import Count, Positive
from vlreward.errors import ConfigError, DataError, RewardError
from vlreward.registry import register
from vlreward.rewards.base import Reward, explain
from vlreward.types import RewardOutput, Rollout


@dataclass(kw_only=True)
class Measured(Reward):
    """Base of all length rewards."""

    unit: Literal["tokens", "words", "characters"] = "tokens"
    """Tokens are counted by whoever generated the text; texts from elsewhere have only words (parted by whitespace) and characters."""
    needs = ("text",)

    def length(self, rollout: Rollout) -> int:
        """How long the text is. Raises RewardError where tokens are asked for and nobody counted them."""
        if self.unit == "words":
            return len((rollout.text or "").split())
        if self.unit == "characters":
            return len(rollout.text or "")
        if rollout.num_tokens is None:
            raise RewardError("nobody counted this text's tokens; set `unit: words` or `unit: characters`")
        return rollout.num_tokens


@register("text_length")
@dataclass(kw_only=True)
class TextLength(Measured):
    """How long the text is. In [0, inf).

    With weight 0 it is a column to watch, and the one that the advantages `gfpo` and `drpo` go by.

    Source: the count itself; tokens include the end token, as in TRL's completion_ids.

    Known cheats: as a reward it pays for any text at all (give it weight 0, or a negative one beside a reward for being right); with
    `unit: words` a text without spaces is one word (count characters where that matters).

    Example: {keys: {unit: words}, text: "three short words"} -> 3
    """

    bounds = (0.0, math.inf)

    def one(self, rollout: Rollout) -> float:
        return float(self.length(rollout))


@register("soft_overlong")
@dataclass(kw_only=True)
class SoftOverlong(Measured):
    """0 up to `max` - `buffer`, from there falling linearly to -1 at `max`, and -1 beyond. In [-1, 0].

    Source: DAPO, arXiv 2503.14476, equation 13; TRL's get_soft_overlong_punishment. ms-swift's version has no floor and goes on
    below -1.

    Known cheats: an empty answer (0, the top: add a reward for being right).

    Example: {keys: {max: 100, buffer: 20}, text: "...", num_tokens: 90} -> -0.5
    """

    max: Count
    buffer: Count
    bounds = (-1.0, 0.0)

    def __post_init__(self):
        if self.buffer > self.max:
            raise ConfigError(f"is {self.buffer}, expected at most max = {self.max}", "buffer")

    def one(self, rollout: Rollout) -> float:
        over = self.length(rollout) - (self.max - self.buffer)
        return -min(max(over / self.buffer, 0.0), 1.0)


@register("length_cap")
@dataclass(kw_only=True)
class LengthCap(Measured):
    """`of` for a text no longer than `max`, 0 for a longer one. In the bounds of `of`, widened to hold 0.

    `of` is only asked about texts within the cap.

    Source: DLER, arXiv 2510.15110: plain truncation as the only length penalty (it adds batch-wide normalisation, which is
    `advantage: {kind: group, std: batch}`, and dynamic sampling).

    Known cheats: those of `of`, within the cap; an `of` that goes below 0 makes running over the cap the better choice (wrap it so
    that it does not); nothing is gained by being shorter than the cap, by design.

    Example: {keys: {of: exact_match, max: 10}, text: "<answer>red</answer>", num_tokens: 11, target: {answer: red}} -> 0
    """

    of: Reward
    max: Count

    def __post_init__(self):
        low, high = self.of.bounds
        self.bounds = (min(low, 0.0), max(high, 0.0))  # type: ignore[misc]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        output = super().batch(rollouts)
        within = [i for i, score in enumerate(output.scores.tolist()) if score == 1]
        judged = self.of.score([rollouts[i] for i in within])
        for place, i in enumerate(within):
            output.scores[i] = judged.scores[place]
            output.notes[i], output.errors[i] = judged.notes[place], judged.errors[place]
            output.marks[i], output.segments[i] = judged.marks[place], judged.segments[place]
        return output

    def one(self, rollout: Rollout) -> tuple[float, str]:
        length = self.length(rollout)
        return (1.0, "") if length <= self.max else (0.0, f"{length} {self.unit}, more than {self.max}")


@dataclass(kw_only=True)
class Judged(Measured):
    """Base of what weighs length against being right, which is: `correct` reaches `at_least`. NaN and errors of `correct` stay."""

    correct: Reward
    at_least: float = 1.0

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        judged = self.correct.score(rollouts)
        correct = judged.scores.to(torch.float64).cpu()
        measured, errors = [math.nan] * len(rollouts), list(judged.errors)
        for i, (rollout, value) in enumerate(zip(rollouts, correct.tolist(), strict=True)):
            if not math.isnan(value):
                try:
                    measured[i] = self.measure(rollout)
                except (DataError, RewardError) as error:
                    errors[i] = explain(error)
        length, right = torch.tensor(measured, dtype=torch.float64), (correct >= self.at_least).to(torch.float64)
        rows = (~length.isnan()).nonzero().flatten()
        scores = torch.full_like(correct, math.nan)
        scores[rows] = self.weigh(right[rows], length[rows], [rollouts[i] for i in rows.tolist()])
        notes = [
            f"{'right' if ok else 'wrong'}, length {n:g}; {note}".removesuffix("; ")
            for ok, n, note in zip(right.tolist(), measured, judged.notes, strict=True)
        ]
        return replace(judged, scores=scores, notes=notes, errors=errors, parts={"right": right, "length": length})

    def measure(self, rollout: Rollout) -> float:
        """The length that counts, or the surplus over a target."""
        return self.length(rollout)

    def weigh(self, right_B: torch.Tensor, length_B: torch.Tensor, rollouts: Sequence[Rollout]) -> torch.Tensor:
        """[B] scores of rollouts that are right (1) or wrong (0) and measure `length_B`; float64, all of them finite."""
        raise NotImplementedError(f"{type(self).__name__} must define weigh")


@register("cosine_length")
@dataclass(kw_only=True)
class CosineLength(Judged):
    """Between two values along half a cosine of length / `max`, one pair for right answers and one for wrong ones. In [-1, 1].

    `right` is (value at length 0, value at `max`), and so is `wrong`: by default a right answer earns more when short, a wrong one
    loses less when long. From `max` on the value stays. The range is that of the four values.

    Source: Demystifying Long Chain-of-Thought Reasoning, arXiv 2502.03373; TRL's get_cosine_scaled_reward. VLM-R1's and ms-swift's
    versions do not stop at `max`, so that 2 * max pays as much as 0 again; VLM-R1's moreover takes every answer for a right one.

    Known cheats: rambling on when the answer is wrong anyway (worth `wrong`'s difference: set both values equal against it); length
    beyond `max` (nothing changes there).

    Example: {keys: {correct: exact_match, max: 100}, text: "<answer>red</answer>", num_tokens: 50, target: {answer: red}} -> 0.75
    """

    max: Count
    right: tuple[float, float] = (1.0, 0.5)
    wrong: tuple[float, float] = (-1.0, -0.5)

    def __post_init__(self):
        values = [*self.right, *self.wrong]
        self.bounds = (min(values), max(values))  # type: ignore[misc]

    def weigh(self, right_B: torch.Tensor, length_B: torch.Tensor, rollouts: Sequence[Rollout]) -> torch.Tensor:
        share = (1 + torch.cos((length_B / self.max).clamp(max=1.0) * math.pi)) / 2
        value = [long + (short - long) * share for short, long in (self.right, self.wrong)]
        return torch.where(right_B > 0, value[0], value[1])


@dataclass(kw_only=True)
class Targeted(Judged):
    """Base of what compares the length with `target.length`, which the prompt asked for."""

    needs = ("text", "target.length")

    def measure(self, rollout: Rollout) -> float:
        """How much longer than wanted it is, below 0 for what is shorter. Raises DataError."""
        wanted = rollout.sample.target["length"]
        if not isinstance(wanted, int | float) or not math.isfinite(wanted) or wanted <= 0:
            raise DataError(f"target.length is {wanted!r}, expected a number above 0")
        return self.length(rollout) - float(wanted)


@register("length_target")
@dataclass(kw_only=True)
class LengthTarget(Targeted):
    """1 if right, minus `slope` for each unit of length off `target.length`, to either side. In (-inf, 1].

    Source: L1-Exact, arXiv 2503.04697, with its slope 3e-4. The sigmoid variant in its code grows with the error.

    Known cheats: a wrong answer of the right length beats a right one that is more than 1 / slope off (choose the slope so that no
    length within the cap costs 1); padding up to the target (asked for here; use `length_budget` where only more is bad).

    Example: {keys: {correct: exact_match, slope: 0.01}, text: "<answer>red</answer>", num_tokens: 50, target: {answer: red, length: 70}} -> 0.8
    """  # noqa: E501

    slope: Positive = 3e-4
    bounds = (-math.inf, 1.0)

    def weigh(self, right_B: torch.Tensor, length_B: torch.Tensor, rollouts: Sequence[Rollout]) -> torch.Tensor:
        return right_B - self.slope * length_B.abs()


@register("length_budget")
@dataclass(kw_only=True)
class LengthBudget(Targeted):
    """If right, 1/2 plus `slope` for each unit of length left of `target.length`, cut to [0, 1]; 0 if wrong. In [0, 1].

    Source: L1-Max, arXiv 2503.04697: the product of being right and clip(slope * (target - length) + 1/2, 0, 1).

    Known cheats: answering without reasoning (a wrong answer is worth 0, however short); running over the budget costs gradually,
    so a right answer just above it still pays.

    Example: {keys: {correct: exact_match, slope: 0.01}, text: "<answer>red</answer>", num_tokens: 50, target: {answer: red, length: 70}} -> 0.7
    """  # noqa: E501

    slope: Positive = 3e-4

    def weigh(self, right_B: torch.Tensor, length_B: torch.Tensor, rollouts: Sequence[Rollout]) -> torch.Tensor:
        return right_B * (0.5 - self.slope * length_B).clamp(0, 1)
