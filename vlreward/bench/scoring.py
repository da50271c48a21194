"""Scores of critics on a benchmark's items, kept in judgements.jsonl a row an item, so that nothing is judged twice.

A critic of single attempts judges each different attempt once, however many items it is in. A critic of groups sees the attempts of an
item in an order that a coin per item decides (published files put the better one first), and then in the reverse order.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vlreward.bench.base import Benchmark
from vlreward.config import fingerprint
from vlreward.data.media import Picture
from vlreward.data.source import BadRow
from vlreward.errors import DataError, under
from vlreward.rewards.base import Reward
from vlreward.run import Progress, RunFolder
from vlreward.types import Comparison, Rollout

FILE = "judgements.jsonl"
ORDERS = ("shuffled", "reversed")
"""In which a critic of groups is shown the attempts; one of single attempts sees 'shuffled' alone, where the order does not matter."""


@dataclass(frozen=True, kw_only=True)
class Critic:
    """A reward under the name that the report gives it."""

    name: str
    reward: Reward
    baseline: bool = False

    @property
    def mark(self) -> str:
        """Changes with any value of its configuration."""
        return fingerprint(self.reward)

    @property
    def orders(self) -> tuple[str, ...]:
        return ORDERS if self.reward.scope == "group" else ORDERS[:1]


@dataclass(kw_only=True)
class Judgements:
    """What was judged of one run: (benchmark, critic, order) -> item -> row of judgements.jsonl."""

    folder: RunFolder
    rows: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: RunFolder, marks: Mapping[tuple[str, str], str]) -> Judgements:
        """Those kept of earlier sittings. Rows of critics or benchmarks that changed, and rows that broke, are left out to be judged anew.

        `marks` are the fingerprints of each (benchmark, critic).
        """
        found = cls(folder=folder)
        kept = [row for row in folder.read(FILE) if not row.get("error") and marks.get((row["benchmark"], row["critic"])) == row["mark"]]
        for row in kept:
            found._add(row)
        folder.rows(FILE, kept)
        return found

    def known(self, benchmark: str, critic: str, order: str = ORDERS[0]) -> dict[str, dict[str, Any]]:
        return self.rows.get((benchmark, critic, order), {})

    def keep(self, rows: Iterable[dict[str, Any]]) -> None:
        rows = list(rows)
        with (self.folder.path / FILE).open("a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
        for row in rows:
            self._add(row)

    def _add(self, row: dict[str, Any]) -> None:
        self.rows.setdefault((row["benchmark"], row["critic"], row["order"]), {})[row["id"]] = row


def judge(critic: Critic, benchmark: Benchmark, ids: set[str], judgements: Judgements, batch: int, device: str, mark: str) -> None:
    """Judge the items named in `ids` that were not judged yet, `batch` attempts at a time."""
    for order in critic.orders:
        done = judgements.known(benchmark.name, critic.name, order)
        if ids <= done.keys():
            continue
        with under(f"critics.{critic.name}"):
            critic.reward.prepare(device)
        same: dict[str, dict[str, Any]] = {}
        what = f"{benchmark.name}: {critic.name}" + (f", {order}" if len(critic.orders) > 1 else "")
        with Progress(what, len(ids), len(ids & done.keys())) as progress:
            for comparisons in _batches(benchmark, ids, batch):
                if critic.reward.scope == "rollout":
                    for comparison in comparisons:
                        _remember(comparison, done.get(comparison.id), same)
                todo = [comparison for comparison in comparisons if comparison.id not in done]
                head = {"benchmark": benchmark.name, "critic": critic.name, "order": order, "mark": mark}
                judgements.keep({**head, **row} for row in _judged(critic.reward, todo, order, device, same, benchmark.by_step))
                progress.advance(len(todo))


def _batches(benchmark: Benchmark, ids: set[str], size: int) -> Iterator[list[Comparison]]:
    held: list[Comparison] = []
    for found in benchmark:
        if isinstance(found, BadRow) or found.id not in ids:
            continue
        held.append(found)
        if sum(len(comparison.rollouts) for comparison in held) >= size:
            yield held
            held = []
    if held:
        yield held


def _judged(
    reward: Reward, comparisons: list[Comparison], order: str, device: str, same: dict[str, dict[str, Any]], by_step: bool
) -> Iterator[dict[str, Any]]:
    """One row an item: scores in the item's own order, or the error that broke it. A score that is null does not apply."""
    single = reward.scope == "rollout"
    plans: list[tuple[Comparison, str]] = []
    asked: list[Rollout] = []
    places: dict[str, int] = {}
    for group, comparison in enumerate(comparisons):
        problem = unreadable(comparison)
        plans.append((comparison, problem))
        for place in shown(comparison.id, len(comparison.rollouts), order) if not problem else []:
            key = identity(comparison.rollouts[place]) if single else f"{group}/{place}"
            if key not in same and key not in places:
                places[key] = len(asked)
                asked.append(replace(comparison.rollouts[place], group=group))
    answers = _answers(reward, asked, device, by_step)
    fresh = {key: answers[row] for key, row in places.items()}
    for group, (comparison, problem) in enumerate(plans):
        row: dict[str, Any] = {"id": comparison.id, "order": order}
        if problem:
            yield row | {"error": problem}
            continue
        keys = [identity(r) if single else f"{group}/{place}" for place, r in enumerate(comparison.rollouts)]
        found = [fresh.get(key) or same[key] for key in keys]
        error = next((answer["error"] for answer in found if answer["error"]), None)
        parts = set.intersection(*(set(answer["parts"]) for answer in found))
        row["scores"] = [answer["score"] for answer in found]
        row |= {"parts": {name: [answer["parts"][name] for answer in found] for name in sorted(parts)}} if parts else {}
        yield row | ({"error": error} if error else {})
    if single:
        same |= {key: answer for key, answer in fresh.items() if not answer["error"]}


def _answers(reward: Reward, rollouts: list[Rollout], device: str, by_step: bool) -> list[dict[str, Any]]:
    if not rollouts:
        return []
    with torch.no_grad():
        output = reward.score(rollouts, device)
    parts = {name: [_finite(value) for value in values.tolist()] for name, values in output.parts.items() if values.ndim == 1}
    scores = output.scores.tolist()
    if by_step:
        scores = [segments[-1].reward if segments else score for segments, score in zip(output.segments, scores, strict=True)]
    return [
        {"score": _finite(score), "error": output.errors[row], "parts": {name: values[row] for name, values in parts.items()}}
        for row, score in enumerate(scores)
    ]


def _remember(comparison: Comparison, row: Mapping[str, Any] | None, same: dict[str, dict[str, Any]]) -> None:
    """What an earlier sitting said of an item's attempts, for other items they are in."""
    if row is None:
        return
    parts = row.get("parts", {})
    for place, rollout in enumerate(comparison.rollouts):
        answer = {"score": row["scores"][place], "error": None, "parts": {name: values[place] for name, values in parts.items()}}
        same[identity(rollout)] = answer


def shown(item: str, count: int, order: str) -> list[int]:
    """The places of an item's attempts in the order in which a critic of groups sees them."""
    places = list(range(count))
    random.Random(f"order/{item}").shuffle(places)
    return places[::-1] if order == "reversed" else places


def unreadable(comparison: Comparison) -> str:
    """What is wrong with the pictures and clips of a comparison, '' where all are there: one missing file must not break its batch."""
    visuals = [v for rollout in comparison.rollouts for v in (*rollout.sample.visuals, rollout.made) if v is not None]
    for visual in {id(v): v for v in visuals}.values():
        try:
            if isinstance(visual, Picture):
                _ = visual.size
            elif visual.missing:
                return f"{visual.origin}: there is no such clip"
        except DataError as error:
            return str(error)
    return ""


def identity(rollout: Rollout) -> str:
    """The same for attempts that a critic of single attempts cannot tell apart: prompt, target, words, pictures."""
    sample = rollout.sample
    seen = [visual.origin for visual in sample.visuals], None if rollout.made is None else rollout.made.origin
    text = json.dumps([sample.prompt, rollout.text, seen, sample.target], default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _finite(value: float) -> float | None:
    return value if value == value else None
