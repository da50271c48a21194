"""The page of `vlreward bench`: for each benchmark its figures by critic, subsets, calibration, love of place and size, agreement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vlreward.report.figures import number
from vlreward.report.folder import Row
from vlreward.report.plots import Line, Plot, line_plot, show, show_interval
from vlreward.report.view import HeadlineTable, table_of

MOST_SUBSETS = 40
"""Lines of a table of subsets."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A plain table: a name and cells a row."""

    title: str
    about: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]


@dataclass(frozen=True, kw_only=True)
class BenchView:
    """One benchmark on the page; its headline stands above, with those of the other benchmarks."""

    name: str
    about: str
    grids: list[Grid]
    subsets: list[HeadlineTable]
    calibration: list[Plot]
    problems: list[tuple[str, str]]
    """What could not be read or judged: whose row, and why"""


def headlines(summary: Row) -> list[HeadlineTable]:
    """The published figure of each benchmark, a line a critic and greyed lines for the baselines."""
    found = [_headline(name, benchmark) for name, benchmark in _benchmarks(summary).items()]
    return [table for table in found if table]


def bench_views(summary: Row) -> list[BenchView]:
    """Everything else of each benchmark; none where a run is no bench."""
    return [_view(name, benchmark) for name, benchmark in _benchmarks(summary).items()]


def _benchmarks(summary: Row) -> Mapping[str, Row]:
    return summary.get("bench") or {}


def _headline(name: str, benchmark: Row) -> HeadlineTable | None:
    key, critics = benchmark["headline"], benchmark["critics"]
    order = sorted(critics, key=lambda critic: critics[critic]["baseline"])
    rows = {critic: {"figure": critics[critic]["figures"][key], **critics[critic]} for critic in order if key in critics[critic]["figures"]}
    random = number(rows["random"]["figure"]["value"]) if "random" in rows else None
    more = {} if random is None else {"chance": (random, "a random critic")}
    return table_of(
        rows,
        lambda r: [("before" if r["baseline"] else "after", *(r["figure"][end] for end in ("value", "low", "high")))],
        lambda r: [_bracket(r["figure"]), show(r["ties"]), str(r["judged"])],
        title=f"{name}: {key}",
        about=f"{benchmark['kind']}, {benchmark['items']} items; 95 % intervals by drawing items anew. Grey: critics that know nothing.",
        columns=[key, "ties", "items"],
        **more,
    )


def _view(name: str, benchmark: Row) -> BenchView:
    critics: Mapping[str, Row] = benchmark["critics"]
    own = {critic: row for critic, row in critics.items() if not row["baseline"]}
    grids = [_calibration(own), _figures(critics), _position(own), *_sizes(own), _agreement(benchmark["agreement"])]
    problems = [(row["id"], row["error"]) for row in benchmark["bad_rows"]]
    problems += [(critic, error) for critic, row in critics.items() for error in row["errors"]]
    return BenchView(
        name=name,
        about=f"{benchmark['kind']}, {benchmark['items']} items, {benchmark['bad']} rows that could not be read",
        grids=[grid for grid in grids if grid and grid.rows],
        subsets=[table for critic, row in own.items() if (table := _subsets(critic, row["subsets"]))],
        calibration=[plot for critic, row in own.items() if (plot := _plot(critic, row["calibration"]))],
        problems=problems,
    )


def _figures(critics: Mapping[str, Row]) -> Grid:
    names = list(dict.fromkeys(figure for row in critics.values() for figure in row["figures"]))
    rows = [(figure, [_bracket(row["figures"].get(figure)) for row in critics.values()]) for figure in names]
    return Grid(title="All figures", about="", columns=list(critics), rows=rows)


def _subsets(critic: str, subsets: Mapping[str, Row]) -> HeadlineTable | None:
    chosen = dict(list(subsets.items())[:MOST_SUBSETS])
    more = f" The first {MOST_SUBSETS} of {len(subsets)}." if len(subsets) > MOST_SUBSETS else ""
    return table_of(
        chosen,
        lambda r: [("after", r["value"], r["low"], r["high"])],
        lambda r: [_bracket(r), str(r["count"])],
        title=f"{critic}: accuracy by subset",
        about=f"Share of pairs ordered rightly, a tie being wrong.{more}",
        columns=["accuracy", "items"],
    )


def _plot(critic: str, found: Row | None) -> Plot | None:
    if not found:
        return None
    x = [100 * bin["confidence"] for bin in found["bins"]]
    low, right, high = ([100 * bin[name] for bin in found["bins"]] for name in ("low", "right", "high"))
    lines = [Line(name="as sure as right", x=x, y=x, tone="faint"), Line(name="right", x=x, y=right, low=low, high=high)]
    return line_plot(lines, f"{critic}: calibration", "% right", "confidence, %")


def _calibration(critics: Mapping[str, Row]) -> Grid:
    rows = [
        (critic, [show(found[name]) for name in ("confidence", "right", "ece", "ece_scaled", "temperature")])
        for critic, row in critics.items()
        if (found := row["calibration"])
    ]
    about = (
        "Of a critic that scores single attempts the confidence is the sigmoid of the difference of two scores. Error: expected "
        "calibration error; after scaling: with the logits divided by a temperature that the other half of the items was fitted to."
    )
    return Grid(title="Confidence", about=about, columns=["confidence", "right", "error", "after scaling", "temperature"], rows=rows)


def _position(critics: Mapping[str, Row]) -> Grid:
    keys = ("consistent", "takes_first", "shuffled", "reversed")
    rows = [
        (critic, [*(_bracket(found[key]) for key in keys), *(show(found["own"].get(key)) for key in ("position_consistency", "first"))])
        for critic, row in critics.items()
        if (found := row["position"])
    ]
    columns = ["same verdict in both orders", "takes the first shown", "accuracy, as shuffled", "accuracy, reversed"]
    columns += ["its own: same verdict", "its own: first"]
    about = (
        "Critics that compare saw every item in an order that a coin chose, and in the reverse one. Its own: what a judge says that shows "
        "each pair in both orders itself."
    )
    return Grid(title="Love of a place", about=about, columns=columns, rows=rows)


def _sizes(critics: Mapping[str, Row]) -> list[Grid]:
    grids = []
    for size in dict.fromkeys(name for row in critics.values() for name in row["sizes"]):
        known = {critic: row["sizes"][size] for critic, row in critics.items() if size in row["sizes"]}
        rows = [
            (critic, [_bracket(r["longer_right"]), _bracket(r["longer_wrong"]), _bracket(r["prefers_longer"]), show(r["spearman"], True)])
            for critic, r in known.items()
        ]
        share = show(next(iter(known.values()))["longer_is_right"])
        word = "longer" if size == "longer" else "larger"
        grids.append(
            Grid(
                title="Love of length" if size == "longer" else "Love of detail",
                about=f"The {size} of two is the right one in {share} of the pairs."
                + ("" if size == "longer" else " The size is that of a JPEG of the picture."),
                columns=[f"accuracy where the {word} is right", "where it is wrong", f"prefers the {word}", "rank correlation"],
                rows=rows,
            )
        )
    return grids


def _agreement(found: Row) -> Grid:
    rows = [
        (f"{row['critics'][0]} and {row['critics'][1]}", [show(row["same"]), show(row["kappa"]), str(row["count"])])
        for row in found["pairs"]
    ]
    together = number(found.get("fleiss"))
    about = "Share of pairs with the same verdict (first, second, tie), and Cohen's kappa, which is 0 by chance."
    about += "" if together is None else f" Fleiss' kappa of all on {found['common']} pairs: {show(together)}."
    return Grid(title="Agreement", about=about, columns=["same verdict", "kappa", "pairs"], rows=rows)


def _bracket(figure: Row | None) -> str:
    return "–" if figure is None else show_interval(figure.get("value"), figure.get("low"), figure.get("high"))
