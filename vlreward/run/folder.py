"""The folder of one run: what every command writes, how it is saved, and how the next sitting goes on from it.

runs/<name>/config.yaml        the resolved configuration
            run.json           command, versions, git commit, fingerprints of the configuration and of your own files, status
            metrics.jsonl      one row a step: reward/<name>, loss/<name>, time/<stage> in seconds, tokens/<stage>
            notices.jsonl      what looks like cheating or a standstill, once a kind; your own files that changed between sittings
            rollouts.jsonl     logged rollouts with scores, notes, errors and boxes; their pictures in media/
            evaluation_<phase>.jsonl   held-out scores, one row an answer
            held_out.jsonl     prompts and seeds of a generator's held-out pictures: plain diffusers draws them again
            solve_rates.jsonl          the same before training, one row a sample, where each was answered several times
            checkpoints/step-000010/   everything the next step depends on
            summary.json, report.html  what it came to
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from vlreward.config import fingerprint, resolved
from vlreward.data.media import Clip, Picture
from vlreward.errors import ConfigError, UserError
from vlreward.registry import outside
from vlreward.run.processes import environment, meet, rank
from vlreward.types import Action, RewardTable, Rollout

FRAME, LAST_FRAME = 125, 625
"""Milliseconds for which a clip's frames are shown; the last one longer, so that one sees where a clip ends and begins."""
KEPT_CHECKPOINTS = 2


@dataclass(frozen=True, kw_only=True)
class Run:
    """The `run:` block of every configuration."""

    name: str
    seed: int = 0
    folder: Path = Path("runs")
    log: tuple[Literal["jsonl", "tensorboard"], ...] = ("jsonl",)
    """Where metrics go; jsonl is always written."""

    def __post_init__(self):
        if not self.name or self.name == ".." or Path(self.name).name != self.name:
            raise ConfigError(f"is {self.name!r}, expected the name of a folder", "name")


class RunFolder:
    """Writes and reads one run's folder. Open it with `RunFolder.open`."""

    def __init__(self, path: Path, run: Run):
        self.path, self.run = path, run
        self._board: Any = None
        self._told: set[str] = set()

    @classmethod
    def open(cls, run: Run, command: str, config: Any, resume: bool = False, fresh: bool = False, free: Iterable[str] = ()) -> RunFolder:
        """Make the folder, or go on with it.

        `resume` goes on where the fingerprint of the configuration is the same (starting anew where nothing was saved); `fresh`
        removes an earlier run; neither refuses one, unless it failed before it kept anything. Keys in `free` may change between sittings.
        Raises ConfigError.
        """
        path = run.folder / run.name
        if rank():
            meet()
            return Onlooker(path, run)
        mark = fingerprint(config, ignore=("run.folder", "run.name", "run.log", *free))
        if path.is_dir() and fresh:
            if any(path.iterdir()) and not (path / "run.json").exists():
                raise ConfigError(f"{path} is not the folder of a run (it has no run.json), so --fresh leaves it alone", "run.name")
            shutil.rmtree(path)
        known = json.loads((path / "run.json").read_text()) if (path / "run.json").exists() else {}
        if known and not (known["status"] == "failed" and _kept_nothing(path)):
            if not resume:
                raise ConfigError(f"the run folder {path} exists; add --resume to go on with it or --fresh to replace it", "run.name")
            if known["fingerprint"] != mark or known["command"] != command:
                raise ConfigError(
                    f"the run folder {path} was made by `vlreward {known['command']}` with another configuration "
                    f"({known['fingerprint']}, now {mark}); choose another run.name or add --fresh",
                    "run.name",
                )
        try:
            (path / "media").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to {path}: {error.strerror}") from error
        folder = cls(path, run)
        folder._text("config.yaml", yaml.safe_dump(resolved(config), sort_keys=False, allow_unicode=True))
        own = outside()
        for file in sorted(name for name, was in known.get("outside", {}).items() if resume and own.get(name, was) != was):
            text = f"{file} has changed since this run's last sitting; from here on its new text counts"
            folder.notice(0, "changed", text)
            print(f"{command}: {text}", file=sys.stderr, flush=True)
        folder.status("running", command=command, fingerprint=mark, outside=own)
        meet()
        return folder

    @contextlib.contextmanager
    def working(self) -> Iterator[RunFolder]:
        """Keeps the status while the run goes on: done at the end, failed where something is raised."""
        try:
            yield self
        except BaseException:
            with contextlib.suppress(OSError):  # the disk may be what failed
                self.status("failed")
            raise
        self.status("done")

    def status(self, status: Literal["running", "done", "failed"], **more: Any) -> None:
        """Update run.json."""
        file = self.path / "run.json"
        known = json.loads(file.read_text()) if file.exists() else {"started": time.strftime("%Y-%m-%d %H:%M:%S")}
        self._json("run.json", known | environment() | more | {"status": status})

    def log(self, step: int, **figures: float) -> None:
        """Append one row to metrics.jsonl (and to TensorBoard where asked)."""
        row = {"step": step} | {name: value for name, value in figures.items() if value is not None}
        self._append("metrics.jsonl", [row])
        if "tensorboard" in self.run.log:
            for name, value in figures.items():
                self._tensorboard().add_scalar(name, value, step)

    def notice(self, step: int, kind: str, text: str) -> None:
        """Append to notices.jsonl what a user should look at."""
        self._append("notices.jsonl", [{"step": step, "kind": kind, "text": text}])

    def rollouts(self, phase: str, step: int, rollouts: Sequence[Rollout], table: RewardTable, rows: Iterable[int] | None = None) -> None:
        """Append rollouts (all, or the given rows) with their scores to rollouts.jsonl; pictures go to media/ once each."""
        chosen = range(len(rollouts)) if rows is None else rows
        if phase == "train":
            self._tell_failures(phase, step, table)
        self._append("rollouts.jsonl", [{"phase": phase, "step": step, **self._record(rollouts[i], table, i)} for i in chosen])

    def evaluation(self, phase: str, rollouts: Sequence[Rollout], table: RewardTable) -> None:
        """Write evaluation_<phase>.jsonl: total and scores of each held-out rollout, whole or not at all."""
        self._tell_failures(phase, 0, table)
        total = table.total.tolist()
        rows = [
            {"id": r.sample.id, "member": i, "total": _number(total[i]), "scores": _scores(table, i), "errors": table.errors(i)}
            for i, r in enumerate(rollouts)
        ]
        self.rows(f"evaluation_{phase}.jsonl", rows)

    def _tell_failures(self, phase: str, step: int, table: RewardTable) -> None:
        """Say once a sitting that a judge breaks, or that nothing is judged: a run goes on, but learns nothing from such rollouts."""
        for kind, text in _failures(table):
            if kind not in self._told and not rank():
                self._told.add(kind)
                self.notice(step, kind, text)
                print(f"{phase}: {text}", file=sys.stderr, flush=True)

    def rows(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a jsonl file of the run, whole or not at all."""
        self._text(name, "".join(json.dumps(row) + "\n" for row in rows))

    def read(self, name: str) -> list[dict[str, Any]]:
        """Rows of a jsonl file of the run; a last line cut short by a kill is left out."""
        file = self.path / name
        rows = []
        for line in file.read_text().splitlines() if file.exists() else []:
            with contextlib.suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
        return rows

    @contextlib.contextmanager
    def checkpoint(self, step: int) -> Iterator[Path]:
        """A folder to save into; it becomes checkpoints/step-<step> only once everything is written."""
        place = self.path / "checkpoints" / f"step-{step:06d}"
        aside = place.with_suffix(".writing")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        meet()
        yield aside
        meet()
        shutil.rmtree(place, ignore_errors=True)
        os.replace(aside, place)
        for old in self._checkpoints()[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old)
        meet()

    def latest(self) -> tuple[int, Path] | None:
        """Step and folder of the newest whole checkpoint."""
        found = self._checkpoints()
        return (int(found[-1].name.removeprefix("step-")), found[-1]) if found else None

    def rewind(self, step: int) -> None:
        """Drop logged rows of later steps, which the next sitting will write again."""
        for name in ("metrics.jsonl", "rollouts.jsonl", "notices.jsonl"):
            if (self.path / name).exists():
                rows = [row for row in self.read(name) if row["step"] <= step]
                self._text(name, "".join(json.dumps(row) + "\n" for row in rows))

    def summary(self, figures: Mapping[str, Any]) -> None:
        """Write summary.json: every figure that the report shows."""
        self._json("summary.json", figures)

    def media(self, visual: Picture | Clip) -> str:
        """Store a picture (PNG) or clip (animated WebP) once, by content; its path relative to the run folder."""
        if isinstance(visual, Picture):
            data, suffix = visual.png(), "png"
        else:
            frames, stream = [picture.pil for picture in visual.pictures], io.BytesIO()
            shown = [FRAME] * (len(frames) - 1) + [LAST_FRAME]
            frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:], duration=shown, loop=0, lossless=True)
            data, suffix = stream.getvalue(), "webp"
        name = f"media/{hashlib.sha1(data).hexdigest()[:16]}.{suffix}"
        if not (self.path / name).exists():
            _write(self.path / name, data)
        return name

    def _record(self, rollout: Rollout, table: RewardTable, row: int) -> dict[str, Any]:
        visual = rollout.visual
        error = bool(table.errors(row))
        with contextlib.suppress(UserError) if error else contextlib.nullcontext():
            visual = None if visual is None else self.media(visual)
        return {
            "id": rollout.sample.id,
            "group": rollout.group,
            "prompt": rollout.sample.prompt,
            "text": rollout.text,
            "picture": visual if isinstance(visual, str) else None,
            "made": rollout.made is not None,
            "total": _number(table.total[row].item()),
            "scores": _scores(table, row),
            "notes": {name: table.outputs[name].notes[row] for name in table.names if table.outputs[name].notes[row]},
            "errors": table.errors(row),
            "marks": [asdict(mark) for name in table.names for mark in table.outputs[name].marks[row]],
        } | ({} if rollout.actions is None else {"actions": [self._action(action) for action in rollout.actions]})

    def _action(self, action: Action) -> dict[str, Any]:
        shown = [self.media(visual) for visual in action.visuals]
        return {"name": action.name, "arguments": dict(action.arguments), "reply": action.reply, "visuals": shown, "error": action.error}

    def _checkpoints(self) -> list[Path]:
        return sorted(path for path in (self.path / "checkpoints").glob("step-*") if not path.suffix)

    def _tensorboard(self) -> Any:
        if self._board is None:
            try:
                from torch.utils.tensorboard.writer import SummaryWriter
            except ImportError as error:
                raise ConfigError("'tensorboard' needs the extra 'track': pip install 'vlreward[track]'", "run.log") from error
            self._board = SummaryWriter(str(self.path / "tensorboard"))
        return self._board

    def _append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        with (self.path / name).open("a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))

    def _json(self, name: str, value: Mapping[str, Any]) -> None:
        self._text(name, json.dumps(_finite(value), indent=1, allow_nan=False) + "\n")

    def _text(self, name: str, text: str) -> None:
        _write(self.path / name, text.encode())


class Onlooker(RunFolder):
    """The same folder in any process but the first: it reads, adds what is its own to checkpoints, and writes nothing else."""

    @contextlib.contextmanager
    def checkpoint(self, step: int) -> Iterator[Path]:
        meet()
        yield self.path / "checkpoints" / f"step-{step:06d}.writing"
        meet()
        meet()

    def log(self, step: int, **figures: float) -> None:
        pass

    def media(self, visual: Picture | Clip) -> str:
        return ""

    def _append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        pass

    def _text(self, name: str, text: str) -> None:
        pass


def _failures(table: RewardTable) -> Iterator[tuple[str, str]]:
    count = len(table.scores)
    for name in table.names:
        errors = [error for error in table.outputs[name].errors if error is not None]
        if errors:
            yield f"broken {name}", f"{name} broke on {len(errors)} of {count} rollouts, which count for nothing; the first: {errors[0]}"
    if count and not table.broken.any() and table.total.isnan().all():
        yield "not judged", f"no reward applies to any of {count} rollouts, so there is nothing to learn from"


def _kept_nothing(path: Path) -> bool:
    return all(file.name in ("config.yaml", "run.json") for file in path.rglob("*") if file.is_file())


def _write(path: Path, data: bytes) -> None:
    """Aside first, then renamed: a reader sees the old file or the new one."""
    aside = path.with_name(path.name + ".writing")
    aside.write_bytes(data)
    os.replace(aside, path)


def _finite(value: Any) -> Any:
    """The tree with null for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float) -> float | None:
    return None if value != value else value


def _scores(table: RewardTable, row: int) -> dict[str, float | None]:
    return {name: _number(table.scores[row, column].item()) for column, name in enumerate(table.names)}
