"""One self-contained HTML page from run folders: `vlreward report RUN [RUN ...] [--out FILE]`."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vlreward.errors import UserError
from vlreward.report.bench import bench_views, headlines
from vlreward.report.cards import choose, shown
from vlreward.report.compare import Comparison, compare, pooled
from vlreward.report.figures import figures
from vlreward.report.folder import RunRecord, read_run
from vlreward.report.pictures import Album
from vlreward.report.plots import show, tone
from vlreward.report.view import RunView, duration, view
from vlreward.run import Run, RunFolder

HERE = Path(__file__).parent
MOST_EXTREMES, MOST_PAIRS = 8, 24
"""Best and worst rollouts each, and pairs before and after, that a page of one run embeds; several runs share them."""


def write_report(folder: Path) -> Path:
    """Render <folder>/report.html and store its figures under `report` in <folder>/summary.json. Raises UserError."""
    record, album = read_run(folder), Album()
    page = _page(record.name, [_view(record, album, "run", MOST_EXTREMES, MOST_PAIRS)], [], album)
    return _write(record.path / "report.html", page)


def write_comparison(folders: Sequence[Path], out: Path, title: str) -> Path:
    """Render several runs on one page. Runs of one command are laid over each other too, and the figures of that go to <out>.json.

    Each run's own figures are stored in its summary.json, as by `write_report`. Raises UserError.
    """
    if not folders:
        raise UserError("a report needs the folder of at least one run")
    records, album = [read_run(folder) for folder in folders], Album()
    extremes, pairs = max(4, MOST_EXTREMES // len(records)), max(6, 2 * MOST_PAIRS // len(records))
    views = [_view(record, album, f"run-{i}", extremes, min(pairs, MOST_PAIRS)) for i, record in enumerate(records)]
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.command, []).append(record)
    shared = {command: pooled(group) for command, group in groups.items() if len(group) > 1}
    if shared:
        runs = {command: [str(record.path) for record in groups[command]] for command in shared}
        both = {command: {"runs": runs[command], "held_out": shared[command]} for command in shared}
        _write(out.with_suffix(".json"), json.dumps(both, indent=1) + "\n")
    comparisons = [compare(command, groups[command], found) for command, found in shared.items()]
    return _write(out, _page(title, views, comparisons, album))


def main(paths: Sequence[str], out: str | None = None) -> int:
    """What `vlreward report` does: one run's page into its folder (or `out`), or several runs' page into `out`; prints its path."""
    folders = [Path(path) for path in paths]
    if len(folders) == 1 and out is None:
        page = write_report(folders[0])
    else:
        names = [folder.resolve().name for folder in folders]
        page = write_comparison(folders, Path(out or "report.html"), " · ".join(names))
    print(page)
    return 0


def _view(record: RunRecord, album: Album, anchor: str, extremes: int, pairs: int) -> RunView:
    chosen = choose(record, album, extremes, pairs)
    report = figures(record) | {"shown": shown(chosen)}
    RunFolder(record.path, Run(name=record.name)).summary({**record.summary, "report": report})
    shown_run = view(record, report, chosen, anchor)
    return replace(shown_run, tables=headlines(record.summary) or shown_run.tables, bench=bench_views(record.summary))


def _page(title: str, runs: list[RunView], comparisons: list[Comparison], album: Album) -> str:
    """The page's HTML. Whatever comes from data is escaped; the content policy lets only our own script run and fetches nothing."""
    pages = Environment(
        loader=PackageLoader("vlreward", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pages.globals |= {"show": show, "tone": tone, "duration": duration}
    script = (HERE / "report.js").read_text()
    seal = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    context: dict[str, Any] = {
        "title": title,
        "runs": runs,
        "comparisons": comparisons,
        "pictures": album.pictures.values(),
        "style": Markup((HERE / "report.css").read_text()),
        "script": Markup(script),
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{seal}'",
    }
    return pages.get_template("page.html").render(context)


def _write(path: Path, text: str) -> Path:
    """Aside first, then renamed. Raises UserError where the place cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(path.name + ".writing")
        aside.write_text(text, encoding="utf-8", errors="replace")  # a text from a file may hold half of a pair of surrogates
        os.replace(aside, path)
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {error.strerror}") from error
    return path
