"""The geometry of the page's charts: where lines, bars, ticks and labels lie. The template draws them as SVG."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlreward.report.figures import number

HARD_SPACE = "\N{NO-BREAK SPACE}"

WIDTH, HEIGHT = 360, 194
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 32
"""Margins around the plotted area; all in SVG units, drawn at about one pixel each."""
MOST_POINTS = 300
"""A longer curve is drawn as means over equal stretches."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series. `y`, `low` and `high` may hold None, which leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    tone: str = "main"
    """CSS class: main, faint, before, after, or s0 to s5 for series of equal rank"""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    name: str
    tone: str
    path: str
    band: str = ""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """What the template needs to draw one chart. `hover` is JSON for the script: pixel positions and the values shown at each."""

    title: str
    about: str
    unit: str
    x_name: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Drawn] = field(default_factory=list)
    bars: list[tuple[str, float, float, float, float]] = field(default_factory=list)
    """tone, x, y, width, height"""
    hover: str = "{}"
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    floor: int = HEIGHT - BOTTOM
    right: int = WIDTH - RIGHT


def show(value: float | None, sign: bool = False) -> str:
    """A figure with three decimals, fewer where it is large, an exponent where it is tiny; an en dash where there is none."""
    if (known := number(value)) is None:
        return "–"
    size = abs(known)
    if size == 0:
        text = "0"
    elif size < 1e-3 or size >= 1e6:
        text = f"{size:.1e}"
    else:
        text = f"{size:.3f}" if size < 10 else f"{size:.1f}" if size < 1000 else f"{size:,.0f}"
    lead = "−" if known < 0 else "+" if sign and known > 0 else ""
    return lead + text


def show_interval(value: float | None, low: float | None, high: float | None, sign: bool = False) -> str:
    """'0.612 [0.580, 0.644]', the figure alone where it has no interval; a bound that is tiny beside the others is 0.000."""
    known = [number(one) for one in (value, low, high)]
    if known[1] is None or known[2] is None:
        return show(value, sign)
    least = 0.01 if max(abs(one) for one in known if one is not None) >= 0.01 else 0.0
    figure, *bounds = (f"{0:.3f}" if one and abs(one) < least / 10 else show(one, sign) for one in known)
    return f"{figure} [{bounds[0]},{HARD_SPACE}{bounds[1]}]"


def line_plot(lines: Sequence[Line], title: str, unit: str = "", x_name: str = "step") -> Plot | None:
    """Lines (with bands) over a common x. None where there is no point to draw."""
    lines = [_thinned(line) for line in lines]
    known = [v for line in lines for column in (line.y, line.low, line.high) for v in column if v is not None]
    xs = sorted({x for line in lines for x in line.x})
    if not known or not xs:
        return None
    y_ticks = ticks(min(known), max(known), 5)
    x_ticks = [tick for tick in ticks(xs[0], xs[-1], 6, whole=True) if xs[0] <= tick <= xs[-1]]
    across = _scale(xs[0], xs[-1], LEFT, WIDTH - RIGHT)
    up = _scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    drawn = [Drawn(name=line.name, tone=line.tone, path=_path(line.x, line.y, across, up), band=_band(line, across, up)) for line in lines]
    rows = [_by_x(line, xs) for line in lines]
    hover = {
        "px": [round(across(x), 1) for x in xs],
        "x": [f"{x_name} {x:g}" for x in xs],
        "rows": [[text for row in rows if (text := row[i])] for i in range(len(xs))],
    }
    main = next((line for line in lines if line.tone != "faint"), lines[0])
    ends = [y for y in main.y if y is not None]
    return Plot(
        title=title,
        unit=unit,
        x_name=x_name,
        about=f"{title} from {show(ends[0])} to {show(ends[-1])} {unit} over {len(main.x)} points" if ends else title,
        x_ticks=[(across(tick), f"{tick:g}") for tick in x_ticks],
        y_ticks=[(up(tick), _label(tick, y_ticks)) for tick in y_ticks],
        lines=drawn,
        hover=json.dumps(hover),
    )


def histogram(title: str, edges: Sequence[float], counts: Mapping[str, Sequence[int]]) -> Plot | None:
    """Shares of rows by score, one series a phase. None where nothing was scored."""
    totals = {phase: sum(column) for phase, column in counts.items()}
    shares = {phase: [count / totals[phase] for count in column] for phase, column in counts.items() if totals[phase]}
    if not shares or not edges:
        return None
    y_ticks = ticks(0, max(max(column) for column in shares.values()), 4)
    across = _scale(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    up = _scale(0, y_ticks[-1], HEIGHT - BOTTOM, TOP)
    bars, step = [], (across(edges[-1]) - across(edges[0])) / (len(edges) - 1)
    for place, (phase, column) in enumerate(shares.items()):
        wide = (step - 2) / len(shares)
        for i, share in enumerate(column):
            if share:
                bars.append((tone(phase), across(edges[i]) + 1 + place * wide, up(share), wide, up(0) - up(share)))
    rows = [[f"{phase}: {counts[phase][i]} ({100 * shares[phase][i]:.0f} %)" for phase in shares] for i in range(len(edges) - 1)]
    hover = {
        "px": [round(across(edges[i]) + step / 2, 1) for i in range(len(edges) - 1)],
        "x": [f"{edges[i]:.3g} to {edges[i + 1]:.3g}" for i in range(len(edges) - 1)],
        "rows": rows,
    }
    return Plot(
        title=title,
        unit="share of rows",
        x_name="score",
        about=f"distribution of {title}: " + ", ".join(f"{phase} {total} rows" for phase, total in totals.items()),
        x_ticks=[(across(tick), f"{tick:g}") for tick in ticks(edges[0], edges[-1], 5) if edges[0] <= tick <= edges[-1]],
        y_ticks=[(up(tick), f"{100 * tick:.3g} %") for tick in y_ticks],
        bars=bars,
        hover=json.dumps(hover),
    )


def ticks(low: float, high: float, count: int, whole: bool = False) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that span low to high."""
    if high <= low:
        pad = abs(low) * 0.1 or 0.5
        low, high = low - (0 if whole else pad), high + pad
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    step = max(step, 1.0) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def smoothed(values: Sequence[float | None]) -> list[float | None]:
    """Centred running mean over about a tenth of the curve; the window shrinks towards the ends."""
    half = max(1, len(values) // 20)
    out: list[float | None] = []
    for i in range(len(values)):
        reach = min(half, i, len(values) - 1 - i)
        near = [v for v in values[i - reach : i + reach + 1] if v is not None]
        out.append(sum(near) / len(near) if near else None)
    return out


def _scale(low: float, high: float, start: float, end: float) -> Any:
    span = high - low
    return lambda value: round(start + (end - start) * ((value - low) / span if span else 0.5), 2)


def _path(x: Sequence[float], y: Sequence[float | None], across: Any, up: Any) -> str:
    """Moves and lines; a point between two gaps becomes a dot (a line of no length with a round cap)."""
    out, pen = [], False
    for a, b in zip(x, y, strict=True):
        if b is not None:
            out.append(f"{'L' if pen else 'M'}{across(a)} {up(b)}" + ("" if pen else "h0"))
        pen = b is not None
    return "".join(out)


def _band(line: Line, across: Any, up: Any) -> str:
    """The area between low and high, one piece between gaps."""
    if not line.low or not line.high:
        return ""
    pieces: list[list[tuple[float, float, float]]] = [[]]
    for x, low, high in zip(line.x, line.low, line.high, strict=True):
        if low is None or high is None:
            pieces.append([])
        else:
            pieces[-1].append((across(x), up(low), up(high)))
    whole = [piece for piece in pieces if len(piece) > 1]
    edge = [[(x, high) for x, _, high in piece] + [(x, low) for x, low, _ in reversed(piece)] for piece in whole]
    return "".join("M" + "L".join(f"{x} {y}" for x, y in points) + "Z" for points in edge)


def _thinned(line: Line) -> Line:
    size = math.ceil(len(line.x) / MOST_POINTS)
    if size <= 1:
        return line

    def means(column: Sequence[float | None]) -> list[float | None]:
        stretches = [[v for v in column[i : i + size] if v is not None] for i in range(0, len(column), size)]
        return [sum(s) / len(s) if s else None for s in stretches]

    return Line(name=line.name, x=line.x[::size], y=means(line.y), low=means(line.low), high=means(line.high), tone=line.tone)


def _by_x(line: Line, xs: Sequence[float]) -> list[str]:
    """For each x of the chart, what the tooltip says of this line ('' where it has no value)."""
    texts = {}
    for i, (x, y) in enumerate(zip(line.x, line.y, strict=True)):
        low, high = (column[i] if column else None for column in (line.low, line.high))
        around = f" [{show(low)}, {show(high)}]" if low is not None and high is not None else ""
        texts[x] = "" if y is None else f"{line.name}: {show(y)}{around}"
    return [texts.get(x, "") for x in xs]


def _label(tick: float, among: Sequence[float]) -> str:
    """Ticks of one axis with the same number of decimals."""
    step = among[1] - among[0]
    if max(map(abs, among)) >= 1e5 or step < 1e-4:
        return f"{tick:.1e}".replace("e-0", "e-").replace("e+0", "e") if tick else "0"
    return f"{tick:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}".replace("-", "−")


def tone(phase: str) -> str:
    """The CSS class of a phase: quiet for what is compared against, accented for the rest."""
    return {"before": "before", "mismatched": "before", "unpaired": "s1"}.get(phase, "after")
