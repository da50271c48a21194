"""Several rewards as one: weighted terms side by side, and combinators (gate, product, minimum) that are rewards themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vlreward.config import parse, part, resolved
from vlreward.errors import ConfigError
from vlreward.registry import register
from vlreward.rewards.base import Reward
from vlreward.types import RewardOutput, RewardTable, Rollout


@dataclass(frozen=True, kw_only=True)
class Term:
    """One weighted column of a composite."""

    name: str
    weight: float
    reward: Reward


class Composite:
    """Weighted terms; calling it scores rollouts with every term and gives a RewardTable.

    In a configuration it is a list of `{kind: ..., weight: 1.0, name: <kind>, ...fields of the reward}`. How terms are added up and
    normalised is the advantage's business.
    """

    def __init__(self, terms: Sequence[Term]):
        assert terms, "a composite needs a term"
        self.terms = tuple(terms)

    @classmethod
    def from_tree(cls, tree: Any, key: str = "rewards", folder: Path | None = None) -> Composite:
        """Build from the configuration's list. Raises ConfigError."""
        if not isinstance(tree, list) or not tree:
            raise ConfigError(f"is {tree!r}, expected a list with at least one {{kind: ..., weight: ...}}", key)
        terms: list[Term] = []
        for i, item in enumerate(tree):
            here = f"{key}.{i}"
            item = {"kind": item} if isinstance(item, str) else item
            if not isinstance(item, dict):
                raise ConfigError(f"is {item!r}, expected a mapping with the key 'kind'", here)
            fields = {k: v for k, v in item.items() if k not in ("weight", "name")}
            reward = part("rewards", fields, here, folder)
            weight = parse(float, item.get("weight", 1.0), f"{here}.weight")
            name = parse(str, item.get("name", reward.kind), f"{here}.name")
            if any(term.name == name for term in terms):
                raise ConfigError(f"two terms are called {name!r}; give one of them a 'name'", here)
            terms.append(Term(name=name, weight=weight, reward=reward))
        return cls(terms)

    def to_tree(self) -> list[dict[str, Any]]:
        """The configuration's list again, every default written out."""
        return [resolved(term.reward) | {"weight": term.weight, "name": term.name} for term in self.terms]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(term.name for term in self.terms)

    def load(self, device: str = "cpu") -> None:
        """Load every term's models."""
        for term in self.terms:
            term.reward.prepare(device)

    def __call__(self, rollouts: Sequence[Rollout], device: str = "cpu") -> RewardTable:
        """Judge B rollouts with all R terms."""
        outputs = {term.name: term.reward.score(rollouts, device) for term in self.terms}
        columns = [outputs[name].scores.to(torch.float64) for name in self.names]
        weights = torch.tensor([term.weight for term in self.terms], dtype=torch.float64)
        return RewardTable(names=self.names, weights=weights, scores=torch.stack([c.cpu() for c in columns], 1), outputs=outputs)


@register("gate")
@dataclass(kw_only=True)
class Gate(Reward):
    """`then` where `when` reaches `at_least`, 0 elsewhere. In the bounds of `then`, widened to hold 0.

    `then` is only asked about rollouts that pass, so an expensive judge behind a cheap check costs little. NaN of `when` stays NaN.
    Known cheats: those of `then`, on rollouts that pass; a gate that nearly nothing passes gives no gradient (watch dead groups).
    Source: gated aggregation, as in SearchLLM's bottom-line constraints and the conditional rewards of GDPO (arXiv 2601.05242).
    """

    when: Reward
    then: Reward
    at_least: float = 1.0

    def __post_init__(self):
        low, high = self.then.bounds
        self.bounds = (min(low, 0.0), max(high, 0.0))  # type: ignore[misc]

    def load(self, device: str) -> None:
        self.when.prepare(device)
        self.then.prepare(device)

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        gate = self.when.score(rollouts)
        passed = [i for i, value in enumerate(gate.scores.tolist()) if value >= self.at_least]
        judged = self.then.score([rollouts[i] for i in passed])
        scores = torch.zeros(len(rollouts), dtype=torch.float64).masked_fill(gate.scores.isnan(), float("nan"))
        output = replace(gate, scores=scores, parts={"gate": gate.scores}, notes=[f"gate: {n}" if n else "" for n in gate.notes])
        for place, i in enumerate(passed):
            output.scores[i] = judged.scores[place]
            output.notes[i], output.errors[i] = judged.notes[place], judged.errors[place]
            output.marks[i], output.segments[i] = judged.marks[place], judged.segments[place]
        return output


@dataclass(kw_only=True)
class _Several(Reward):
    """What product and minimum share: every factor judges every rollout; NaN or an error of one is the row's."""

    of: tuple[Reward, ...]

    def __post_init__(self):
        if len(self.of) < 2:
            raise ConfigError(f"has {len(self.of)} entries, expected at least 2", "of")
        for i, reward in enumerate(self.of):
            if not all(0 <= bound <= 1 for bound in reward.bounds):
                raise ConfigError(f"{reward.kind} ranges over {list(reward.bounds)}, expected a reward within [0, 1]", f"of.{i}")

    def load(self, device: str) -> None:
        for reward in self.of:
            reward.prepare(device)

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        outputs = [reward.score(rollouts) for reward in self.of]
        rows = range(len(rollouts))
        return RewardOutput(
            scores=self.combine(torch.stack([output.scores.to(torch.float64) for output in outputs], 1)),
            parts={f"{i}_{reward.kind}": output.scores for i, (reward, output) in enumerate(zip(self.of, outputs, strict=True))},
            notes=["; ".join(filter(None, (output.notes[i] for output in outputs))) for i in rows],
            errors=[next(filter(None, (output.errors[i] for output in outputs)), None) for i in rows],
            marks=[[mark for output in outputs for mark in output.marks[i]] for i in rows],
        )

    def combine(self, scores: torch.Tensor) -> torch.Tensor:
        """[B,K] -> [B]"""
        raise NotImplementedError(f"{type(self).__name__} must define combine")


@register("product")
@dataclass(kw_only=True)
class Product(_Several):
    """Product of rewards that lie in [0, 1]: each must hold for the others to count. In [0, 1].

    Known cheats: one factor at 0 hides the others' differences, so a policy that cannot reach it learns nothing (a sum or a gate
    with a lower bar helps).
    """

    def combine(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.prod(1)


@register("minimum")
@dataclass(kw_only=True)
class Minimum(_Several):
    """The lowest of rewards that lie in [0, 1]: nothing is gained by trading one for another. In [0, 1].

    Known cheats: none of its own; only the worst term is improved at a time.
    """

    def combine(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.amin(1)
