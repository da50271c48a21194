"""Several rewards as one: weighted terms side by side, and combinators (gate, product, minimum) that are rewards themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vlreward.config import NotNegative, Positive, parse, part, resolved
from vlreward.errors import ConfigError, under
from vlreward.registry import register
from vlreward.rewards.base import Reward, lacking, walk
from vlreward.types import RewardOutput, RewardTable, Rollout, Sample

TERM_KEYS = ("weight", "name")
"""Keys of a term that are not its reward's."""


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

    def __init__(self, terms: Sequence[Term], key: str = "rewards"):
        assert terms, "a composite needs a term"
        self.terms, self.key = tuple(terms), key

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
            fields = {k: v for k, v in item.items() if k not in TERM_KEYS}
            reward = part("rewards", fields, here, folder, beside=TERM_KEYS)
            weight = parse(float, item.get("weight", 1.0), f"{here}.weight")
            name = parse(str, item.get("name", reward.kind), f"{here}.name")
            if any(term.name == name for term in terms):
                raise ConfigError(f"two terms are called {name!r}; give one of them a 'name'", here)
            terms.append(Term(name=name, weight=weight, reward=reward))
        return cls(terms, key)

    def to_tree(self) -> list[dict[str, Any]]:
        """The configuration's list again, every default written out."""
        return [resolved(term.reward) | {"weight": term.weight, "name": term.name} for term in self.terms]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the R terms, in order: the columns of a table."""
        return tuple(term.name for term in self.terms)

    @property
    def rewards(self) -> tuple[Reward, ...]:
        """Every reward in it, those inside of combinators too."""
        return tuple(reward for term in self.terms for reward in walk(term.reward))

    @property
    def memory(self) -> list[dict[str, float]]:
        """What each reward remembers of earlier batches, for a checkpoint."""
        return [reward.memory for reward in self.rewards]

    def recall(self, memory: Sequence[Mapping[str, float]]) -> None:
        """Put a checkpoint's memory in place of what is remembered now."""
        for reward, kept in zip(self.rewards, memory, strict=True):
            reward.memory.clear()
            reward.memory.update(kept)

    def load(self, device: str = "cpu") -> None:
        """Load every term's models. Raises ConfigError about the term's key in the configuration."""
        for i, term in enumerate(self.terms):
            with under(f"{self.key}.{i}"):
                term.reward.prepare(device)

    def check(self, samples: Sequence[Sample], name: str) -> None:
        """Raise ConfigError where a term needs a target that none of the samples has; `name` is the configuration key they come from."""
        rollouts = [Rollout(sample=sample) for sample in samples]
        for i, term in enumerate(self.terms):
            for need in term.reward.needs:
                if need.startswith("target.") and rollouts and len(lacking(rollouts, need)) == len(rollouts):
                    raise ConfigError(f"{term.reward.kind!r} needs {need!r}, which no sample of `{name}` has", f"rewards.{i}.kind")

    def __call__(self, rollouts: Sequence[Rollout], device: str = "cpu") -> RewardTable:
        """Judge B rollouts with all R terms."""
        return self.table({term.name: term.reward.score(rollouts, device) for term in self.terms})

    def table(self, outputs: Mapping[str, RewardOutput]) -> RewardTable:
        """The terms' outputs, by name in their order, as one table."""
        columns = [outputs[name].scores.to(torch.float64) for name in self.names]
        weights = torch.tensor([term.weight for term in self.terms], dtype=torch.float64)
        return RewardTable(names=self.names, weights=weights, scores=torch.stack([c.cpu() for c in columns], 1), outputs=outputs)


def require_judged(table: RewardTable, key: str = "rewards") -> None:
    """Raises ConfigError where a term that weighs broke on every rollout: a judge that never judged is set up wrong."""
    for place, (name, weight) in enumerate(zip(table.names, table.weights.tolist(), strict=True)):
        errors = table.outputs[name].errors
        if weight and errors and all(errors):
            raise ConfigError(f"the judge of {name!r} broke on all of {len(errors)} rollouts: {errors[0]}", f"{key}.{place}")


@register("gate")
@dataclass(kw_only=True)
class Gate(Reward):
    """`then` where `when` reaches `at_least`, 0 elsewhere. In the bounds of `then`, widened to hold 0.

    `then` is only asked about rollouts that pass, so an expensive judge behind a cheap check costs little. NaN of `when` stays NaN.
    `shortfall` gives `when` - `at_least`, which is below 0, to what does not pass. Several conditions: a `minimum` as `when`.

    Source: gated aggregation, as in SearchLLM's bottom-line constraints and the conditional rewards of GDPO (arXiv 2601.05242).

    Known cheats: those of `then`, on rollouts that pass; a gate that nearly nothing passes gives no gradient (watch dead groups, or
    set `shortfall`).

    Example: {keys: {when: answer_format, then: exact_match}, text: "<answer>red</answer>", target: {answer: red}} -> 1
    """

    when: Reward
    then: Reward
    at_least: float = 1.0
    shortfall: bool = False

    def __post_init__(self):
        low, high = self.then.bounds
        missing = min(0.0, self.when.bounds[0] - self.at_least) if self.shortfall else 0.0
        self.bounds = (min(low, missing), max(high, 0.0))  # type: ignore[misc]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        gate = self.when.score(rollouts)
        passed = [i for i, value in enumerate(gate.scores.tolist()) if value >= self.at_least]
        judged = self.then.score([rollouts[i] for i in passed])
        missing = (gate.scores - self.at_least).to(torch.float64)
        scores = missing if self.shortfall else torch.zeros_like(missing).masked_fill(missing.isnan(), float("nan"))
        output = replace(gate, scores=scores, parts={"gate": gate.scores}, notes=[f"gate: {n}" if n else "" for n in gate.notes])
        for place, i in enumerate(passed):
            output.scores[i] = judged.scores[place]
            output.notes[i], output.errors[i] = judged.notes[place], judged.errors[place]
            output.marks[i], output.segments[i] = judged.marks[place], judged.segments[place]
        return output


@dataclass(kw_only=True)
class _Several(Reward):
    """What product, minimum and cautious mean share: every factor judges every rollout; NaN or an error of one is the row's."""

    of: tuple[Reward, ...]

    def __post_init__(self):
        if len(self.of) < 2:
            raise ConfigError(f"has {len(self.of)} entries, expected at least 2", "of")
        for i, reward in enumerate(self.of):
            if not all(0 <= bound <= 1 for bound in reward.bounds):
                raise ConfigError(f"{reward.kind} ranges over {list(reward.bounds)}, expected a reward within [0, 1]", f"of.{i}")

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        outputs = [reward.score(rollouts) for reward in self.of]
        rows = range(len(rollouts))
        return RewardOutput(
            scores=self.combine(torch.stack([output.scores.to(torch.float64) for output in outputs], 1)),
            parts={f"{i}_{reward.kind}": output.scores for i, (reward, output) in enumerate(zip(self.of, outputs, strict=True))},
            notes=["; ".join(filter(None, (output.notes[i] for output in outputs))) for i in rows],
            errors=[next(filter(None, (output.errors[i] for output in outputs)), None) for i in rows],
            marks=[[mark for output in outputs for mark in output.marks[i]] for i in rows],
            segments=[[segment for output in outputs for segment in output.segments[i]] for i in rows],
        )

    def combine(self, scores: torch.Tensor) -> torch.Tensor:
        """[B,K] -> [B]"""
        raise NotImplementedError(f"{type(self).__name__} must define combine")


@register("product")
@dataclass(kw_only=True)
class Product(_Several):
    """Product of rewards that lie in [0, 1]: each must hold for the others to count. In [0, 1].

    Source: multiplicative gating of reward terms, such as accuracy times format.

    Known cheats: one factor at 0 hides the others' differences, so a policy that cannot reach it learns nothing (a sum or a gate
    with a lower bar helps).

    Example: {keys: {of: [answer_format, exact_match]}, text: "it is <answer>red</answer>", target: {answer: red}} -> 0
    """

    def combine(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.prod(1)


@register("minimum")
@dataclass(kw_only=True)
class Minimum(_Several):
    """The lowest of rewards that lie in [0, 1]: nothing is gained by trading one for another. In [0, 1].

    Source: worst-case optimisation over an ensemble of judges (arXiv 2310.02743).

    Known cheats: none of its own; only the worst term is improved at a time.

    Example: {keys: {of: [answer_format, exact_match]}, text: "<answer>red</answer>", target: {answer: red}} -> 1
    """

    def combine(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.amin(1)


@register("cautious_mean")
@dataclass(kw_only=True)
class CautiousMean(_Several):
    """Mean of several judges minus `kappa` times their standard deviation: what they disagree on is worth less. In [-kappa/2, 1].

    The deviation is that of the population (divided by the number of judges), at most 1/2 for scores in [0, 1].

    Source: conservative ensembles against over-optimisation (arXiv 2310.02743, which subtracts the variance; a lower confidence bound
    takes the deviation).

    Known cheats: what all judges overrate alike (not defended: judges that share a backbone share its blind spots); a judge whose
    scale is narrow hardly counts in the deviation (wrap each in `centred_sigmoid`).

    Example: {keys: {of: [answer_format, exact_match]}, text: "<answer>blue</answer>", target: {answer: red}} -> 0
    """

    kappa: NotNegative = 1.0

    def __post_init__(self):
        super().__post_init__()
        self.bounds = (-self.kappa / 2, 1.0)  # type: ignore[misc]

    def combine(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.mean(1) - self.kappa * scores.std(1, correction=0)


@register("soft_gate")
@dataclass(kw_only=True)
class SoftGate(Reward):
    """`then` times sigmoid(`sharpness` * (`when` - `at_least`)): a gate without an edge. In the bounds of `then`, widened to hold 0.

    NaN or an error of either is the row's.

    Source: gated aggregation as in SearchLLM's bottom-line constraints, with a sigmoid for the step; the parametrisation is ours.

    Known cheats: those of `then` at a discount, since a failed condition leaves sigmoid(-sharpness * shortfall) of it (raise
    `sharpness`); far above the bar `when` pays nothing more, by design.

    Example: {keys: {when: answer_format, then: exact_match}, text: "<answer>red</answer>", target: {answer: red}} -> 0.993
    """

    when: Reward
    then: Reward
    at_least: float = 0.5
    sharpness: Positive = 10.0

    def __post_init__(self):
        low, high = self.then.bounds
        self.bounds = (min(low, 0.0), max(high, 0.0))  # type: ignore[misc]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        gate, judged = self.when.score(rollouts), self.then.score(rollouts)
        share = torch.sigmoid(self.sharpness * (gate.scores.to(torch.float64) - self.at_least))
        notes = [f"gate {opened:.2f}; {note}".removesuffix("; ") for opened, note in zip(share.tolist(), judged.notes, strict=True)]
        errors = [ours or theirs for ours, theirs in zip(gate.errors, judged.errors, strict=True)]
        segments = [
            [replace(segment, reward=segment.reward * opened) for segment in found]
            for found, opened in zip(judged.segments, share.tolist(), strict=True)
        ]
        return replace(judged, scores=judged.scores * share, parts={"gate": gate.scores}, notes=notes, errors=errors, segments=segments)
