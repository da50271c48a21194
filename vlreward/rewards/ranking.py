"""Are the right documents ranked first?"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vlreward.config import Count
from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.answers import Answered
from vlreward.types import Rollout

SEPARATOR = re.compile(r"[\s,;>]+")
MAX_LISTED = 10_000
"""An answer that lists more is worth 0."""


@register("reranking")
@dataclass(kw_only=True)
class Reranking(Answered):
    """Quality of an answered ranking of `target.candidates` by `measure`, times the share of its entries that are valid. In [0, 1].

    The answer lists candidates, best first: `[3, 1, 2]`, `3 > 1 > 2` or a JSON list of names. `target.relevant` is the list of right
    candidates, or a mapping to their gains. `ndcg`: discounted gain of the first `k` / its largest value; `recall`: share of the
    relevant among the first `k`, of at most `k`; `mrr`: 1 / rank of the first relevant one, 0 beyond `k`. By default `k` is all. An
    entry that was listed before or is no candidate keeps its rank, gains nothing, and is not valid.

    Source: nDCG, recall and MRR as usual, for the document reranking of MM-R5, whose own reward (sum of rank^-3) gives [3, 3, 3, 5]
    90 % of what [3, 5] gets.

    Known cheats: naming a sure candidate again and again, or inventing ones (each takes a rank and lowers the share of valid ones);
    listing all candidates (honest, that is a ranking; only their order pays); several lists (the last answer counts).

    Example: {text: "<answer>[3, 3, 3, 5]</answer>", target: {relevant: [3, 5], candidates: [1, 2, 3, 4, 5]}} -> 0.439
    """

    measure: Literal["ndcg", "recall", "mrr"] = "ndcg"
    k: Count | None = None
    needs = ("text", "target.relevant", "target.candidates")

    def one(self, rollout: Rollout) -> tuple[float, str]:
        gains, candidates = _task(rollout.sample.target)
        found = self.answer(rollout)
        if found is None:
            return 0.0, "no <answer>...</answer>"
        listed = read_ranking(found)
        if not listed or len(listed) > MAX_LISTED:
            return 0.0, f"{len(listed)} entries in the ranking"
        first = {name: place for place, name in reversed(list(enumerate(listed)))}
        valid = [name in candidates and first[name] == place for place, name in enumerate(listed)]
        ranked = [gains.get(name, 0.0) if good else 0.0 for name, good in zip(listed, valid)]
        score = ranking_quality(ranked, list(gains.values()), self.measure, self.k)
        return score * sum(valid) / len(listed), f"{self.measure} {score:.3f}, {sum(valid)} of {len(listed)} entries valid"


def ranking_quality(
    ranked: Sequence[float], gains: Sequence[float], measure: Literal["ndcg", "recall", "mrr"], k: int | None = None
) -> float:
    """A measure of the gains in ranked order, given all gains that there are to have. In [0, 1]."""
    top = ranked[:k]
    if measure == "mrr":
        return next((1 / rank for rank, gain in enumerate(top, start=1) if gain > 0), 0.0)
    if measure == "recall":
        return sum(gain > 0 for gain in top) / min(len(gains), k or len(gains))
    ideal = sorted(gains, reverse=True)[:k]
    return _discounted(top) / _discounted(ideal)


def read_ranking(answer: str) -> list[str]:
    """The entries of a ranking in order: of a JSON list, else what commas, spaces or > part, without brackets and quotes."""
    try:
        listed = json.loads(answer)
    except (ValueError, RecursionError):
        listed = None
    if isinstance(listed, list):
        return [_name(entry) for entry in listed]
    return [entry for entry in (part.strip("[](){}\"'.`*") for part in SEPARATOR.split(answer)) if entry]


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def _name(entry: Any) -> str:
    return entry if isinstance(entry, str) else json.dumps(entry)


def _task(target: Mapping[str, Any]) -> tuple[dict[str, float], set[str]]:
    """Gains of the relevant candidates, all above 0, and the candidates, by name."""
    relevant, candidates = target["relevant"], target["candidates"]
    if not isinstance(candidates, list | tuple) or not candidates:
        raise DataError(f"target.candidates is {candidates!r}, expected a list of numbers or names")
    if not isinstance(relevant, list | tuple | Mapping) or not relevant:
        raise DataError(f"target.relevant is {relevant!r}, expected a list of candidates, or a mapping to their gains")
    gains = dict(relevant) if isinstance(relevant, Mapping) else dict.fromkeys(map(_name, relevant), 1.0)
    if not all(isinstance(gain, int | float) and 0 < gain < math.inf for gain in gains.values()):
        raise DataError(f"target.relevant is {relevant!r}, expected gains above 0")
    names = set(map(_name, candidates))
    gains = {_name(name): float(gain) for name, gain in gains.items()}
    unknown = [name for name in gains if name not in names]
    if unknown:
        raise DataError(f"target.relevant names {unknown[0]!r}, which is not among target.candidates")
    return gains, names
