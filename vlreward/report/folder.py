"""A run's folder as the report reads it: only files, so that a stopped, a failed and a copied run can be shown too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vlreward.errors import UserError
from vlreward.run import Run, RunFolder

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run folder holds. Every part but `info` may be empty: a run that was just started has nothing else."""

    path: Path
    info: Row
    """run.json: command, status, started, versions, git"""
    config_text: str
    config: Row
    metrics: Sequence[Row]
    rollouts: Sequence[Row]
    scores: Sequence[Row]
    """scores.jsonl of the `score` command"""
    evaluations: Mapping[str, Sequence[Row]]
    """phase -> held-out rows; 'before' first, 'after' last"""
    summary: Row
    notices: Sequence[Row] = ()
    """What looked like cheating, a standstill or a broken judge on the way, once a kind"""

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def command(self) -> str:
        return str(self.info.get("command", "?"))

    @property
    def seed(self) -> Any:
        run = self.config.get("run")
        return run.get("seed") if isinstance(run, Mapping) else None

    @property
    def watching(self) -> set[str]:
        """Names of the reward terms of weight 0, which are judged and not trained on."""
        found = self.config.get("rewards")
        terms = [term for term in found if isinstance(term, Mapping)] if isinstance(found, list) else []
        return {str(term.get("name", term.get("kind"))) for term in terms if term.get("weight") == 0}

    @property
    def seconds(self) -> float | None:
        """What the command measured of itself."""
        value = self.summary.get("seconds", self.info.get("seconds"))
        return float(value) if isinstance(value, int | float) else None

    @property
    def steps(self) -> int | None:
        """Steps taken, or None where the command has none."""
        if "steps" in self.summary:
            return int(self.summary["steps"])
        return max((int(row["step"]) for row in self.metrics), default=None)


def read_run(path: Path) -> RunRecord:
    """The record of runs/<name>. Raises UserError where the folder is missing or no run was started in it."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"there is no run folder {str(path)!r}")
    if not (path / "run.json").is_file():
        raise UserError(f"{str(path)!r} is not the folder of a run: it has no run.json")
    files = RunFolder(path, Run(name=path.resolve().name))
    config_text = (path / "config.yaml").read_text() if (path / "config.yaml").is_file() else ""
    phases = {file.stem.removeprefix("evaluation_"): _rows(files, file.name) for file in path.glob("evaluation_*.jsonl")}
    return RunRecord(
        path=path,
        info=_mapping(path / "run.json"),
        config_text=config_text,
        config=_yaml(config_text, path / "config.yaml"),
        metrics=[row for row in _rows(files, "metrics.jsonl") if isinstance(row.get("step"), int)],
        rollouts=_rows(files, "rollouts.jsonl"),
        scores=_rows(files, "scores.jsonl"),
        evaluations=dict(sorted(phases.items(), key=lambda item: _moment(item[0]))),
        summary=_mapping(path / "summary.json"),
        notices=_rows(files, "notices.jsonl"),
    )


def _rows(files: RunFolder, name: str) -> list[Row]:
    return [row for row in files.read(name) if isinstance(row, dict)]


def _mapping(file: Path) -> Row:
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{file}:{error.lineno}: not valid JSON ({error.msg})") from error
    return value if isinstance(value, dict) else {}


def _yaml(text: str, file: Path) -> Row:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not valid YAML") from error
    return value if isinstance(value, dict) else {}


def _moment(phase: str) -> tuple[int, int]:
    """Sorts 'before', 'epoch_4', 'epoch_12', 'after' as they came."""
    step = phase.rpartition("_")[2]
    return {"before": 0, "after": 2}.get(phase, 1), int(step) if step.isdigit() else 0
