"""`vlreward score`: rows of pictures and words -> scores.jsonl, the kept subset, a summary and a report."""

from __future__ import annotations

import itertools
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch

from vlreward.config import Bound, Count, load
from vlreward.data.kept import FILE as KEPT
from vlreward.data.source import BadRow, Source, named
from vlreward.errors import ConfigError, DataError, blaming, under
from vlreward.report.build import write_report
from vlreward.rewards.composite import Composite
from vlreward.run import Device, Progress, Run, RunFolder, device_of, meet
from vlreward.run.launch import Launch
from vlreward.statistics import interval, share
from vlreward.types import Rollout, Sample

FILE = "scores.jsonl"
PART = "scores.part-{}.jsonl"
TOLD = 5
"""Rows whose error is printed; all stand in the file."""


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Which rows go into kept.jsonl: by one of two bars."""

    at_least: float | None = None
    """Total score from which a row is kept."""
    best: Annotated[float, Bound(0, 1, above=True)] | None = None
    """Share of the scored rows that is kept, those of the highest total score; of equal ones the earlier."""

    def __post_init__(self):
        if (self.at_least is None) == (self.best is None):
            raise ConfigError(
                f"gives {'no bar' if self.best is None else 'two bars'}, expected one of at_least (a score) and best (a share)"
            )


@dataclass(frozen=True, kw_only=True)
class Score:
    """The configuration of `vlreward score`."""

    run: Run
    data: Source
    rewards: Composite
    keep: Keep | None = None
    batch: Count = 32
    device: Device = "auto"
    shown: Count = 200
    """Rows whose pictures are stored for the report."""


def main(path: str, overrides: list[str], resume: bool, fresh: bool) -> int:
    """Score every row; 0 if all rows could be read and judged, 2 if some could not (they are in scores.jsonl with their error)."""
    config, _ = load(path, overrides, Score)
    started = time.monotonic()
    with blaming(path), under("data"):
        rows, count = config.data, config.data.length()
        if count is None:
            rows = list(config.data)
            count = len(rows)
    if not count:
        raise DataError(f"{named(config.data)}: has no rows")
    launch = Launch(device_of(config.device))
    folder = RunFolder.open(config.run, "score", config, resume=resume, fresh=fresh, free=("keep",))
    with folder.working():
        with blaming(path):
            config.rewards.load(launch.device)
        scored = _all(rows, count, config, folder, launch)
        if launch.rank:
            return 0
        summary = summarize(scored, config.rewards.names) | {"seconds": round(time.monotonic() - started, 1)}
        summary["kept"] = _keep(scored, config.keep, folder)
        folder.summary(summary)
    page = write_report(folder.path)
    _tell(summary, scored, config.rewards, folder.path / FILE, page)
    return 2 if summary["bad"] or summary["broken"] else 0


def _all(rows: Iterable[Sample | BadRow], count: int, config: Score, folder: RunFolder, launch: Launch) -> list[dict[str, Any]]:
    """scores.jsonl, one row for each of the data in its order: those of earlier sittings that did not fail, and the rest now.

    No more than a batch of the data is in memory, but for ids. Several processes take turns at batches, each with a file of its own until
    all are done; then the first one has all rows, and the others none.
    """
    known = {row["id"]: row for row in _written(folder) if "error" not in row}
    meet()  # all have read what the first one now writes anew
    folder.rows(FILE, known.values())
    folder.rows("rollouts.jsonl", [row for row in folder.read("rollouts.jsonl") if row["id"] in known])
    meet()
    place: dict[str, int] = {}

    def waiting() -> Iterator[Sample | BadRow]:
        """Rows that are not known; of those that are, only the place is."""
        for row in rows:
            if row.id in place:
                raise DataError(f"{row.id}: two rows of {named(config.data)} have this id; give each its own")
            place[row.id] = len(place)
            if isinstance(row, Sample) and row.id in known:
                if known[row.id]["prompt"] == row.prompt:
                    continue
                progress.done -= 1
            yield row

    own = folder.path / (FILE if launch.count == 1 else PART.format(launch.rank))
    with Progress("score", count, min(len(known), count)) as progress, own.open("a" if launch.count == 1 else "w") as out:
        todo, done = waiting(), len(known)
        for number in itertools.count():
            if not (batch := list(islice(todo, config.batch))):
                break
            if number % launch.count != launch.rank:
                continue
            for row in _score(batch, config, folder, done, launch.device):
                out.write(json.dumps(row) + "\n")
            out.flush()
            done += len(batch)
            progress.advance(min(launch.count * len(batch), count - progress.done))
    meet()
    if launch.rank:
        return []
    scored = _latest(_written(folder), place)
    folder.rows(FILE, scored)
    folder.rows("rollouts.jsonl", _latest(folder.read("rollouts.jsonl"), place))
    for part in folder.path.glob(PART.format("*")):
        part.unlink()
    return scored


def _written(folder: RunFolder) -> list[dict[str, Any]]:
    """Rows of scores.jsonl and of the files that several processes left of it."""
    parts = sorted(part.name for part in folder.path.glob(PART.format("*")))
    return [row for name in (FILE, *parts) for row in folder.read(name)]


def _latest(rows: Iterable[dict[str, Any]], place: Mapping[str, int]) -> list[dict[str, Any]]:
    """One row for each id that has a place, the last one written, in the order of their places."""
    newest = {row["id"]: row for row in rows if row["id"] in place}
    return sorted(newest.values(), key=lambda row: place[row["id"]])


def _score(batch: list[Sample | BadRow], config: Score, folder: RunFolder, before: int, device: str) -> Iterator[dict[str, Any]]:
    """One output row for each row of the batch, in order."""
    samples = [row for row in batch if isinstance(row, Sample)]
    rollouts = [Rollout(sample=sample, text=sample.target.get("response")) for sample in samples]
    if rollouts:
        with torch.no_grad():
            table = config.rewards(rollouts, device)
        shown = range(min(len(rollouts), max(0, config.shown - before)))
        folder.rollouts("score", 0, rollouts, table, shown)
        total = table.total.tolist()
    place = 0
    for row in batch:
        if isinstance(row, BadRow):
            yield {"id": row.id, "error": row.error}
            continue
        values = {name: _finite(table.scores[place, column].item()) for column, name in enumerate(table.names)}
        output: dict[str, Any] = {"id": row.id, "prompt": row.prompt, "score": _finite(total[place]), "scores": values}
        notes = {name: table.outputs[name].notes[place] for name in table.names if table.outputs[name].notes[place]}
        errors = table.errors(place)
        output |= ({"notes": notes} if notes else {}) | ({"error": "; ".join(errors)} if errors else {})
        output |= {key: row.target[key] for key in ("pair", "matched") if key in row.target}
        yield output
        place += 1


def summarize(rows: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    """Counts, mean with interval of every term, and how often matched pairs win."""
    judged = [row for row in rows if "scores" in row]

    def values(name: str) -> list[float]:
        found = (row["score"] if name == "total" else row["scores"][name] for row in judged)
        return [value for value in found if value is not None]

    terms = {name: interval(values(name)) for name in ("total", *names)}
    return {
        "command": "score",
        "rows": len(rows),
        "scored": len(values("total")),
        "bad": len(rows) - len(judged),
        "broken": sum("error" in row for row in judged),
        "terms": {name: {"mean": i.mean, "low": i.low, "high": i.high, "count": i.count} for name, i in terms.items() if i.count},
        "matched_wins": matched_wins(judged, names),
    }


def matched_wins(rows: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    """Share of pairs in which the matched row scores higher than the mismatched one (a tie is half a win), by term and in total."""
    pairs: dict[str, dict[bool, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        if "pair" in row and "matched" in row:
            pairs[row["pair"]][bool(row["matched"])] = row
    wins: dict[str, list[float]] = defaultdict(list)
    for pair in pairs.values():
        if len(pair) == 2:
            for name in ("total", *names):
                right, wrong = (p["score"] if name == "total" else p["scores"][name] for p in (pair[True], pair[False]))
                if right is not None and wrong is not None:
                    wins[name].append(float(right > wrong) + 0.5 * float(right == wrong))
    shares = {name: share(values) for name, values in wins.items()}
    return {name: {"wins": i.mean, "low": i.low, "high": i.high, "count": i.count} for name, i in shares.items()}


def _keep(scored: list[dict[str, Any]], keep: Keep | None, folder: RunFolder) -> int:
    """Write kept.jsonl: the id, words and score of every row that reaches the bar, best first; the source `kept` reads it."""
    if keep is None:
        (folder.path / KEPT).unlink(missing_ok=True)
        return 0
    good = sorted((row for row in scored if row.get("score") is not None), key=lambda row: -row["score"])
    if keep.best is not None:
        good = good[: round(keep.best * len(good))]
    else:
        good = [row for row in good if row["score"] >= keep.at_least]
    folder.rows(KEPT, [{"id": row["id"], "prompt": row["prompt"], "score": row["score"]} for row in good])
    return len(good)


def _tell(summary: dict[str, Any], scored: list[dict[str, Any]], rewards: Composite, file: Path, page: Path) -> None:
    judged = f"{summary['scored']} of {summary['rows']} rows scored"
    print(f"{judged}; {summary['bad']} bad rows, {summary['broken']} with a broken judge; {summary['kept']} kept")
    wrong = [row for row in scored if "error" in row]
    for row in wrong[:TOLD]:
        print(f"  {row['id']}: {row['error']}")
    if len(wrong) > TOLD:
        print(f"  and {len(wrong) - TOLD} more, each with its `error` in {file}")
    if alone := sum(row["score"] is None for row in scored if "error" not in row):
        needs = "; ".join(f"{term.name} needs {' and '.join(term.reward.needs) or 'nothing'}" for term in rewards.terms)
        print(f"  no reward applies to {alone} rows ({needs})")
    for name, term in summary["terms"].items():
        span = f"[{term['low']:.3f}, {term['high']:.3f}]" if term["count"] > 1 else "(one row has no interval)"
        print(f"  {name:16} {term['mean']:.3f} {span}  n={term['count']}")
    for name, won in summary["matched_wins"].items():
        print(f"  matched wins by {name}: {won['wins']:.1%} of {won['count']} pairs")
    print(f"scores: {file}\nreport: {page}")


def _finite(value: float) -> float | None:
    return value if value == value else None
