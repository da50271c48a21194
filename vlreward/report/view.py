"""What the template shows of one run: a record and its figures, laid out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlreward.report.calibration import calibration_plot, length_rows
from vlreward.report.cards import Chosen
from vlreward.report.figures import alone, bad_rows, by_step, curve_names, number
from vlreward.report.folder import Row, RunRecord
from vlreward.report.plots import HARD_SPACE, Line, Plot, histogram, line_plot, show, show_interval, smoothed, ticks

COMMANDS = {
    "score": "Scored pairs",
    "train-vlm": "Trained a vision-language model",
    "align": "Aligned a generator",
    "train-critic": "Trained a critic",
    "eval": "Evaluated without training",
    "bench": "Measured critics on benchmarks",
}
FEW_STEPS = 30
"""From here on a curve gets a running mean over its points."""
BY_STEP = " by denoising step"
SHOWN_BAD = 10


@dataclass(frozen=True, kw_only=True)
class Span:
    """A mean with its interval on an axis, as percentages of the axis."""

    tone: str
    at: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Headline:
    """One line of the figures that a run is about."""

    name: str
    cells: list[str]
    spans: list[Span]
    verdict: str = ""
    """up, down or unclear, where an interval says so"""


@dataclass(frozen=True, kw_only=True)
class HeadlineTable:
    """Lines over one axis. `mark` is a reference value on it (percent of the axis), with what it stands for."""

    title: str
    about: str
    columns: list[str]
    lines: list[Headline]
    axis: list[tuple[float, str]]
    mark: tuple[float, str] | None = None


@dataclass(frozen=True, kw_only=True)
class TermView:
    """The breakdown of one reward term."""

    name: str
    plot: Plot | None
    phases: list[tuple[str, list[str], list[tuple[str, int]]]]
    """phase, cells, commonest errors with their counts"""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """One run on a page."""

    anchor: str
    record: RunRecord
    what: str
    facts: list[tuple[str, str]]
    tables: list[HeadlineTable]
    curves: list[Plot]
    constant: list[tuple[str, str]]
    """Figures that were the same at every step, which have no curve, and their values."""
    stages: list[tuple[str, str, str]]
    """stage, seconds a step, share"""
    stage_plot: Plot | None
    terms: list[TermView]
    breakdown_of: str
    bad_rows: list[tuple[str, str]]
    """id and error of the first rows that were no samples"""
    chosen: Chosen
    versions: list[tuple[str, str]]
    calibration: Plot | None = None
    """Of a critic: how often pairs of some confidence were ordered rightly."""
    bench: list[Any] = field(default_factory=list)
    """Of a bench run: a BenchView for each benchmark."""
    lengths: list[tuple[str, str]] = field(default_factory=list)
    """Of a critic: what length has to do with its judgements."""


def view(record: RunRecord, report: Mapping[str, Any], chosen: Chosen, anchor: str) -> RunView:
    """Lay out one run. `report` is what `figures` gave."""
    tables = [table for table in (_held_out(record.summary), _wins(record.summary), _scored(record.summary)) if table]
    info = record.info
    versions = {"vlreward": info.get("vlreward"), "python": info.get("python"), **(info.get("versions") or {})}
    return RunView(
        anchor=anchor,
        record=record,
        what=COMMANDS.get(record.command, record.command),
        facts=_facts(record),
        tables=tables or [table for table in [_so_far(report)] if table],
        curves=_curves(record),
        constant=[(name, f"{value:.6g}") for name, value in constants(record).items()],
        stages=_stages(report),
        stage_plot=_stage_plot(record),
        terms=[_term(name, term) for name, term in report["terms"].items()],
        breakdown_of="held-out rows" if record.evaluations else "scored rows" if record.scores else "logged rollouts",
        bad_rows=[(str(row.get("id")), str(row.get("error"))) for row in bad_rows(record)[:SHOWN_BAD]],
        chosen=chosen,
        versions=[(name, str(value)) for name, value in versions.items() if value],
        calibration=calibration_plot(record.summary),
        lengths=length_rows(record.summary),
    )


def duration(seconds: float | None) -> str:
    """'41 s', '3 min 05 s' or '2 h 10 min'"""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def points(record: RunRecord, name: str) -> tuple[list[int], list[float | None]]:
    """Steps and values of one logged figure; None where a step's value is not finite."""
    rows = [row for row in record.metrics if name in row]
    return [row["step"] for row in rows], [number(row[name]) for row in rows]


def steady(record: RunRecord, name: str) -> float | None:
    """The value of a logged figure that was the same at every step of several; a reward is none, for it should have moved."""
    values = points(record, name)[1]
    return values[0] if len(values) > 1 and len(set(values)) == 1 and not name.startswith("reward/") else None


def constants(record: RunRecord) -> dict[str, float]:
    """Logged figures, times aside, that are `steady`; one `x by denoising step` where they were logged for each and are the same at all."""
    names = [name for name in curve_names(record.metrics) if not name.startswith("time/")]
    found = {name: value for name in names if (value := steady(record, name)) is not None}
    for family, members in by_step(names).items():
        values = [found.pop(name, None) for name in members]
        if len(set(values)) == 1 and values[0] is not None:
            found[f"{family}{BY_STEP}"] = values[0]
    return found


def _curves(record: RunRecord) -> list[Plot]:
    """Of every logged figure that changed, but times; what was logged for each denoising step lies in one chart."""
    names, same = [name for name in curve_names(record.metrics) if not name.startswith("time/")], constants(record)
    steps = by_step(names)
    plots = [curve(record, name) for name in names if name not in same and all(name not in members for members in steps.values())]
    for family, members in steps.items():
        if f"{family}{BY_STEP}" in same:
            continue
        columns = [points(record, name) for name in members]
        ends = [name.rpartition("/")[2].replace("_", " ") for name in members]
        lines = [Line(name=end, x=x, y=y, tone=f"s{i % 6}") for i, (end, (x, y)) in enumerate(zip(ends, columns, strict=True))]
        plots.append(line_plot(lines, f"{family}{BY_STEP}"))
    return [plot for plot in plots if plot]


def curve(record: RunRecord, name: str) -> Plot | None:
    """One logged figure over the steps, with its band where `<name>_low` and `<name>_high` were logged beside it."""
    title = f"{name} (weight 0: only watches)" if name.removeprefix("reward/") in record.watching else name
    x, y = points(record, name)
    rows = [row for row in record.metrics if name in row]
    low, high = ([number(row.get(name + end)) for row in rows] for end in ("_low", "_high"))
    if any(value is not None for value in low):
        return line_plot([Line(name=name, x=x, y=y, low=low, high=high)], title)
    if len(y) < FEW_STEPS:
        return line_plot([Line(name=name, x=x, y=y)], title)
    raw = Line(name=name, x=x, y=y, tone="faint")
    return line_plot([raw, Line(name="running mean", x=x, y=smoothed(y))], title)


def table_of(
    rows: Mapping[str, Row], spans: Callable[[Row], list[tuple[str, Any, Any, Any]]], cells: Callable[[Row], list[str]], **rest: Any
) -> HeadlineTable | None:
    """Lines over a shared axis: 0 to 1 where every mean lies there (an interval by Student's t may reach beyond, and is cut)."""
    known = {name: row for name, row in rows.items() if isinstance(row, Mapping) and not (name == "total" and alone(rows))}
    values = [v for row in known.values() for _, *span in spans(row) for v in map(number, span) if v is not None]
    if not values:
        return None
    centres = [v for row in known.values() for _, at, _, _ in spans(row) if (v := number(at)) is not None]
    chance = rest.pop("chance", None)
    values += [chance[0]] if chance else []
    marks = ticks(0, 1, 5) if all(0 <= v <= 1 for v in centres) else ticks(min(values), max(values), 5)

    def place(value: Any) -> float | None:
        good = number(value)
        return None if good is None else min(100.0, max(0.0, round(100 * (good - marks[0]) / (marks[-1] - marks[0]), 2)))

    lines = []
    for name, row in known.items():
        drawn = [(tone, place(at), place(low), place(high)) for tone, at, low, high in spans(row)]
        shown = [Span(tone=tone, at=at, low=low, high=high) for tone, at, low, high in drawn if at is not None]
        lines.append(Headline(name=name, cells=cells(row), spans=shown, verdict=_verdict(row)))
    axis = [(float(place(mark) or 0), f"{mark:g}") for mark in marks]
    mark = (float(place(chance[0]) or 0), chance[1]) if chance else None
    return HeadlineTable(lines=lines, axis=axis, mark=mark, **rest)


def bracket(row: Row, name: str, sign: bool = False) -> str:
    """'0.612 [0.580, 0.644]' of a figure and its interval."""
    return show_interval(row.get(name), row.get(f"{name}_low"), row.get(f"{name}_high"), sign)


def held_out_table(rows: Mapping[str, Row], title: str, about: str, unit: str) -> HeadlineTable | None:
    """Before, after and gain, one line a row."""
    return table_of(
        rows,
        lambda r: [(t, r.get(t), r.get(f"{t}_low"), r.get(f"{t}_high")) for t in ("before", "after")],
        lambda r: [bracket(r, "before"), bracket(r, "after"), bracket(r, "gain", sign=True), str(r.get("count", "–"))],
        title=title,
        about=about,
        columns=["before", "after", "gain", unit],
    )


def _held_out(summary: Row) -> HeadlineTable | None:
    rows = summary.get("held_out") or {}
    rows = {name: rows[name] for name in sorted(rows, key=lambda name: name != "total")}
    title, about = "Held-out score, before and after", "Mean with 95 % interval over samples; gain is paired."
    chosen = summary.get("choose")
    if isinstance(chosen, Mapping):
        title = "Held-out score of one answer, and of the chosen one"
        single, answers, tokens = (f"{chosen[name]:.3g}" for name in ("tokens_single", "answers", "tokens"))
        about += f" Before: one answer a sample, of {single} tokens. After: the one chosen of {answers} answers, {tokens} tokens in all."
    steer = summary.get("steer")
    if isinstance(steer, Mapping):
        title = f"Held-out score of a plain picture, and of one made by {steer['kind']}"
        judged, passes, plain = (f"{steer[name]:.3g}" for name in ("judged", "passes", "passes_plain"))
        about += f" Before: {plain} network passes a picture. After: {judged} pictures judged and {passes} network passes a picture."
    return held_out_table(rows, title, about, "samples")


def _wins(summary: Row) -> HeadlineTable | None:
    return table_of(
        summary.get("matched_wins") or {},
        lambda r: [("after", r.get("wins"), r.get("low"), r.get("high"))],
        lambda r: [_wins_text(r), str(r.get("count", "–"))],
        title="Matched pairs that win",
        about="Share of comparisons in which the right words score higher than wrong ones for the same picture, with 95 % interval.",
        columns=["share won", "comparisons"],
        chance=(0.5, "chance"),
    )


def _wins_text(row: Row) -> str:
    return bracket({"wins": row.get("wins"), "wins_low": row.get("low"), "wins_high": row.get("high")}, "wins")


def _scored(summary: Row) -> HeadlineTable | None:
    return _means(summary.get("terms") or {}, "Mean score", "Over all scored rows, with 95 % interval.")


def _so_far(report: Mapping[str, Any]) -> HeadlineTable | None:
    """Stands in while a run has no summary: the held-out means that were written already."""
    rows = {f"{name} ({phase})": row for name, term in report["terms"].items() for phase, row in term["phases"].items()}
    return _means(rows, "Mean score so far", "The run has not written its summary; means over samples with 95 % interval.")


def _means(rows: Mapping[str, Row], title: str, about: str) -> HeadlineTable | None:
    return table_of(
        rows,
        lambda r: [("after", r.get("mean"), r.get("low"), r.get("high"))],
        lambda r: [
            bracket({"m": r.get("mean"), "m_low": r.get("low"), "m_high": r.get("high")}, "m"),
            str(r.get("count", r.get("samples", "–"))),
        ],
        title=title,
        about=about,
        columns=["mean", "rows"],
    )


def _verdict(row: Row) -> str:
    low, high = number(row.get("gain_low")), number(row.get("gain_high"))
    if low is None or high is None:
        return ""
    return "up" if low > 0 else "down" if high < 0 else "unclear"


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    summary, commit = record.summary, record.info.get("git")
    facts = [
        ("command", f"vlreward {record.command}"),
        ("status", str(record.info.get("status", "?"))),
        ("started", str(record.info.get("started", "–"))),
        ("duration", duration(record.seconds)),
        ("seed", "–" if record.seed is None else str(record.seed)),
        ("commit", str(commit)[:12] if commit else "–"),
    ]
    if record.steps is not None:
        facts.insert(4, ("steps", str(record.steps)))
    facts += [(name, str(summary[name])) for name in ("rows", "scored", "bad", "broken", "kept", "stopped") if name in summary]
    return facts


def _stages(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    seconds = {name: value for name, value in report["seconds_per_step"].items() if value is not None}
    whole = sum(seconds.values()) or 1.0
    return [(name, show(value), f"{100 * value / whole:.0f} %") for name, value in sorted(seconds.items(), key=lambda item: -item[1])]


def _stage_plot(record: RunRecord) -> Plot | None:
    names = [name for name in curve_names(record.metrics) if name.startswith("time/")]
    lines = []
    for i, name in enumerate(names):
        x, y = points(record, name)
        lines.append(Line(name=name.removeprefix("time/"), x=x, y=y, tone=f"s{i % 6}"))
    return line_plot(lines, "time per step", "seconds")


def _term(name: str, term: Mapping[str, Any]) -> TermView:
    phases = []
    for phase, row in term["phases"].items():
        rows = row["rows"] or 1
        shares = [f"{100 * row[key] / rows:.3g}{HARD_SPACE}%" for key in ("not_applicable", "broken")]
        mean = bracket({"m": row["mean"], "m_low": row["low"], "m_high": row["high"]}, "m")
        phases.append((phase, [mean, str(row["rows"]), *shares], [(item["error"], item["count"]) for item in row["errors"]]))
    counts: Mapping[str, Sequence[int]] = {phase: row["counts"] for phase, row in term["phases"].items()}
    return TermView(name=name, plot=histogram(name, term["edges"], counts), phases=phases)
