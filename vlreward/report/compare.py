"""Several runs of one command (seeds, say) as one: their curves on a common axis and the gain over runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlreward.report.figures import curve_names, number
from vlreward.report.folder import RunRecord
from vlreward.report.plots import Line, Plot, line_plot
from vlreward.report.view import HeadlineTable, held_out_table, points, steady
from vlreward.statistics import interval

OVER_RUNS = "mean of runs"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs of one command side by side."""

    command: str
    names: list[str]
    tables: list[HeadlineTable]
    """One a reward term, one line a run and one for their mean"""
    curves: list[Plot]
    constant: list[tuple[str, str]]
    """Figures that were the same at every step of every run, which have no curve, and their values."""


def pooled(records: Sequence[RunRecord]) -> dict[str, Any]:
    """term -> before, after and gain as means over runs with 95 % intervals; the interval is over runs, not over samples."""
    held = [record.summary.get("held_out") or {} for record in records]
    out: dict[str, Any] = {}
    for term in dict.fromkeys(name for rows in held for name in rows):
        rows = [rows[term] for rows in held if isinstance(rows.get(term), Mapping)]
        out[term] = {"count": len(rows)}
        for key in ("before", "after", "gain"):
            found = interval([value for row in rows if (value := number(row.get(key))) is not None])
            out[term] |= {key: number(found.mean), f"{key}_low": number(found.low), f"{key}_high": number(found.high)}
    return out


def compare(command: str, records: Sequence[RunRecord], figures: Mapping[str, Any]) -> Comparison:
    """Lay out runs of one command. `figures` is what `pooled` gave."""
    tables = []
    for term, over_runs in figures.items():
        lines = {record.name: row for record in records if (row := (record.summary.get("held_out") or {}).get(term))}
        about = "Each run over its samples, the last line over the runs; 95 % intervals."
        table = held_out_table({**lines, OVER_RUNS: over_runs}, f"Held-out {term}, {len(records)} runs", about, "samples / runs")
        if table:
            tables.append(table)
    names = [name for name in curve_names([row for r in records for row in r.metrics]) if not name.startswith("time/")]
    alike = {name: values.pop() for name in names if len(values := {steady(record, name) for record in records}) == 1}
    constant = [(name, f"{value:.6g}") for name, value in alike.items() if value is not None]
    curves = [plot for name in names if alike.get(name) is None and (plot := _curve(records, name))]
    return Comparison(command=command, names=[record.name for record in records], tables=tables, curves=curves, constant=constant)


def _curve(records: Sequence[RunRecord], name: str) -> Plot | None:
    """Every run as a faint line, their mean with its interval where at least two runs have the step."""
    columns = [dict(zip(*points(record, name), strict=True)) for record in records]
    lines = [Line(name=r.name, x=list(c), y=list(c.values()), tone="faint") for r, c in zip(records, columns, strict=True) if c]
    found = {}
    for step in sorted({step for column in columns for step in column}):
        values = [value for column in columns if (value := column.get(step)) is not None]
        if len(values) > 1:
            found[step] = interval(values)
    middle = Line(
        name=OVER_RUNS,
        x=list(found),
        y=[number(item.mean) for item in found.values()],
        low=[number(item.low) for item in found.values()],
        high=[number(item.high) for item in found.values()],
    )
    return line_plot([*lines, middle] if found else lines, name)
