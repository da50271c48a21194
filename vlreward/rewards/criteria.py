"""An answer judged by several criteria, with penalties for what must not happen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from vlreward.config import Positive
from vlreward.errors import ConfigError
from vlreward.registry import register
from vlreward.rewards.base import Reward
from vlreward.types import RewardOutput, Rollout


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One criterion: a reward, brought from its bounds to [0, 1], and how much it counts."""

    by: Reward
    weight: Positive = 1.0


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """What is taken off: `cost` times how far `by` falls short of the top of its bounds, relative to their width."""

    by: Reward
    cost: Positive = 1.0


@register("criteria")
@dataclass(kw_only=True)
class Criteria(Reward):
    """Weighted mean of `criteria`, each in [0, 1], minus `penalties`, and not below `low`. In [low, 1].

    Each criterion and each penalty is a reward with finite bounds, by rule or by a judge, and is first scaled to [0, 1] by these. A penalty
    takes off `cost` * (1 - score), so `hallucination` and `contradiction` cost where they find some. A criterion that does not apply leaves
    the mean and a penalty that does not apply costs nothing; NaN where no criterion applies. The judge of one breaking breaks the row.

    Source: SaFeR-VLM, arXiv 2510.06871: structured rewards of weighted criteria with explicit penalties for hallucinations and
    contradictions. Its weights are not public; these are fields.

    Known cheats: trading a penalty for a criterion (make the cost at least the weight's share of the mean); refusing all (give
    `refusal` as a criterion, which counts needless ones); those of each part.

    Example: {keys: {criteria: {right: {by: exact_match}}, penalties: {format: {by: answer_format, cost: 0.5}}}, text: "So: <answer>red</answer>", target: {answer: red}} -> 0.5
    """  # noqa: E501

    criteria: Mapping[str, Criterion]
    penalties: Mapping[str, Penalty] = field(default_factory=dict)
    low: float = -1.0

    def __post_init__(self):
        if not self.criteria:
            raise ConfigError("is empty, expected at least one name: {by: ..., weight: ...}", "criteria")
        twice = sorted(self.criteria.keys() & self.penalties.keys())
        if twice:
            raise ConfigError(f"has {twice[0]!r}, which is the name of a criterion; call it something else", "penalties")
        for key, group in (("criteria", self.criteria), ("penalties", self.penalties)):
            for name, each in group.items():
                low, high = each.by.bounds
                if not -float("inf") < low < high < float("inf"):
                    raise ConfigError(f"{each.by.kind} ranges over {list(each.by.bounds)}, expected finite bounds", f"{key}.{name}.by")
                if each.by.scope == "group":
                    raise ConfigError(f"is {each.by.kind!r}, which compares rollouts; wrap it on its own as a term", f"{key}.{name}.by")
        if self.low > 0:
            raise ConfigError(f"is {self.low:g}, expected at most 0", "low")
        self.bounds = (self.low, 1.0)  # type: ignore[misc]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        judged = {name: (each, each.by.score(rollouts)) for name, each in (self.criteria | self.penalties).items()}  # type: ignore[operator]
        zero = torch.zeros(len(rollouts), dtype=torch.float64)
        total, weight, taken, parts = zero.clone(), zero.clone(), zero.clone(), {}
        for name, (each, output) in judged.items():
            low, high = each.by.bounds
            share = (output.scores.to("cpu", torch.float64) - low) / (high - low)
            applies = ~share.isnan()
            if isinstance(each, Criterion):
                total += each.weight * share.nan_to_num()
                weight += each.weight * applies
            else:
                taken += each.cost * (1 - share).nan_to_num()
            parts[name] = share
        scores = (total / weight - taken).clamp(min=self.low).masked_fill(weight == 0, float("nan"))
        rows = range(len(rollouts))
        outputs = [output for _, output in judged.values()]
        named = [", ".join(f"{name} {share[row].item():.2f}" for name, share in parts.items() if not share[row].isnan()) for row in rows]
        return RewardOutput(
            scores=scores,
            parts=parts,
            notes=named,
            errors=[next((output.errors[row] for output in outputs if output.errors[row]), None) for row in rows],
            marks=[[mark for output in outputs for mark in output.marks[row]] for row in rows],
        )
