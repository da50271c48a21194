"""`vlreward bench`: critics over benchmarks -> judgements.jsonl, and figures that are computed from it anew each time."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlreward.bench.base import Benchmark
from vlreward.bench.baselines import BASELINES, SIZES
from vlreward.bench.bias import agreement
from vlreward.bench.judged import Item, Judged
from vlreward.bench.scoring import Critic, Judgements, judge
from vlreward.bench.summary import figures_of
from vlreward.config import Count, fingerprint
from vlreward.data.source import BadRow
from vlreward.errors import ConfigError, DataError, under
from vlreward.rewards.base import Reward
from vlreward.run import Device, Run, RunFolder, device_of
from vlreward.types import Comparison

LOOKED_AT = 8
"""Items whose pictures are looked for before anything is judged."""
SHOWN_ERRORS = 5


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The configuration of `vlreward bench`."""

    run: Run
    critics: Mapping[str, Reward]
    """Name in the report -> reward."""
    benchmark: Benchmark | None = None
    benchmarks: tuple[Benchmark, ...] = ()
    """Instead of `benchmark`, several."""
    baselines: bool = True
    """Judge with critics that know nothing beside the given ones: random, constant, longer, larger file."""
    batch: Count = 32
    """Attempts judged at a time."""
    device: Device = "auto"
    limit: Count | None = None
    """Items of each benchmark, at even distances; all by default."""

    def __post_init__(self):
        if (self.benchmark is None) == (not self.benchmarks):
            raise ConfigError("one of the keys 'benchmark' and 'benchmarks' is needed, and not both", "benchmark")
        if not self.critics:
            raise ConfigError("has no critic, expected a name and a reward", "critics")
        for name in self.critics:
            if name in BASELINES:
                raise ConfigError(f"{name!r} is the name of a baseline; choose another", "critics")
        names = [benchmark.name for benchmark in self.asked]
        for i, benchmark in enumerate(self.asked):
            if benchmark.name in names[:i]:
                raise ConfigError(f"two benchmarks are called {benchmark.name!r}; give one of them a 'name'", f"benchmarks.{i}.name")
            for name, reward in self.critics.items():
                if benchmark.pointwise and reward.scope == "group":
                    problem = f"{reward.kind!r} compares attempts, but {benchmark.kind!r} needs a score for each one alone"
                    raise ConfigError(problem, f"critics.{name}")

    @property
    def asked(self) -> tuple[Benchmark, ...]:
        return self.benchmarks if self.benchmark is None else (self.benchmark,)


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a benchmark holds: items without their pictures, and rows that are none."""

    items: list[Item]
    bad: list[BadRow] = field(default_factory=list)


def bench(config: Bench, resume: bool, fresh: bool) -> RunFolder:
    """Judge what was not judged yet, and write summary.json. Raises UserError."""
    started = time.monotonic()
    contents = [
        _content(benchmark, f"benchmarks.{i}" if config.benchmarks else "benchmark", config.limit)
        for i, benchmark in enumerate(config.asked)
    ]
    folder = RunFolder.open(
        config.run, "bench", config, resume=resume, fresh=fresh, free=("critics", "baselines", "batch", "device", "limit")
    )
    with folder.working():
        _judge_all(config, contents, folder, started)
    return folder


def _judge_all(config: Bench, contents: Sequence[Content], folder: RunFolder, started: float) -> None:
    baselines = [Critic(name=name, reward=cls(), baseline=True) for name, cls in BASELINES.items()] if config.baselines else []
    critics = [*(Critic(name=name, reward=reward) for name, reward in config.critics.items()), *baselines]
    marks = {(b.name, c.name): f"{fingerprint(b)}/{c.mark}" for b in config.asked for c in critics}
    judgements, device = Judgements.of(folder, marks), device_of(config.device)
    for critic in critics:
        for benchmark, content in zip(config.asked, contents, strict=True):
            ids = {item.id for item in content.items}
            judge(critic, benchmark, ids, judgements, config.batch, device, marks[benchmark.name, critic.name])
    found = {
        benchmark.name: _figures(benchmark, content, critics, judgements, config.run.seed)
        for benchmark, content in zip(config.asked, contents, strict=True)
    }
    bad = sum(len(content.bad) for content in contents)
    broken = sum(row["broken"] for one in found.values() for row in one["critics"].values())
    folder.summary({"command": "bench", "bad": bad, "broken": broken, "bench": found, "seconds": round(time.monotonic() - started, 1)})


def _content(benchmark: Benchmark, key: str, limit: int | None) -> Content:
    """Read a benchmark once. Raises DataError where no row is one of its rows, ConfigError where the first items' pictures are missing."""
    items: list[Item] = []
    bad: list[BadRow] = []
    lost: list[str] = []
    with under(key):
        for found in benchmark:
            if isinstance(found, BadRow):
                bad.append(found)
                continue
            if len(items) < LOOKED_AT:
                lost += _lost(found)
            items.append(Item.of(found))
    if not items:
        first = f"the first: {bad[0].id}: {bad[0].error}" if bad else "it is empty"
        raise DataError(f"{benchmark.place}: none of its {len(bad)} rows is one of {benchmark.kind!r}; {first}")
    if lost and len(lost) == min(len(items), LOOKED_AT):
        raise ConfigError(f"none of the first {len(lost)} items has its pictures; {lost[0]}: there is no such file", f"{key}.pictures")
    if limit is not None and limit < len(items):
        items = [items[i * len(items) // limit] for i in range(limit)]
    return Content(items=items, bad=bad)


def _lost(comparison: Comparison) -> list[str]:
    """A file of the comparison that is not there, if there is one."""
    visuals = [v for rollout in comparison.rollouts for v in (*rollout.sample.visuals, rollout.made) if v is not None]
    return [v.origin for v in visuals if v.missing][:1]


def _figures(benchmark: Benchmark, content: Content, critics: Sequence[Critic], judgements: Judgements, seed: int) -> dict[str, Any]:
    judged = {
        (critic.name, order): _judged(content.items, judgements.known(benchmark.name, critic.name, order))
        for critic in critics
        for order in critic.orders
    }
    sizes = {name: {one.item.id: one.scores for one in judged.get((name, "shuffled"), [])} for name in SIZES}
    found = {
        "kind": benchmark.kind,
        "items": len(content.items),
        "bad": len(content.bad),
        "bad_rows": [{"id": row.id, "error": row.error} for row in content.bad[:SHOWN_ERRORS]],
        "headline": benchmark.headline,
        "critics": {},
    }
    for critic in critics:
        rows = [judgements.known(benchmark.name, critic.name, order) for order in critic.orders]
        errors = [row["error"] for known in rows for item in content.items if (row := known.get(item.id)) and row.get("error")]
        if critic.baseline and not judged[critic.name, "shuffled"] and not errors:
            continue  # a size of what is not there
        found["critics"][critic.name] = {
            "baseline": critic.baseline,
            "judged": len(judged[critic.name, "shuffled"]),
            "broken": 0 if critic.baseline else len(errors),
            "errors": list(dict.fromkeys(errors))[:SHOWN_ERRORS],
        } | figures_of(benchmark, critic, [judged[critic.name, order] for order in critic.orders], sizes, seed)
    found["agreement"] = _agreement(found["critics"], judged)
    return found


def _agreement(critics: Mapping[str, Any], judged: Mapping[tuple[str, str], Sequence[Judged]]) -> dict[str, Any]:
    return agreement({name: judged[name, "shuffled"] for name in critics if name not in ("random", "constant")})


def _judged(items: Sequence[Item], known: Mapping[str, Mapping[str, Any]]) -> list[Judged]:
    """Items that were judged whole: neither broken nor, for one of its attempts, not applicable."""
    out = []
    for item in items:
        row = known.get(item.id)
        if row is None or row.get("error") or any(score is None or not math.isfinite(score) for score in row["scores"]):
            continue
        parts = {name: tuple(values) for name, values in row.get("parts", {}).items() if None not in values}
        out.append(Judged(item=item, scores=tuple(row["scores"]), parts=parts))
    return out
