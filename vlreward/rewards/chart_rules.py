"""Does generated plotting code say the right things? It is read, not run."""

from __future__ import annotations

import ast
import itertools
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy.optimize import linear_sum_assignment

from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.base import Reward
from vlreward.rewards.chart_facts import common_colors, fscore, multiset_f1
from vlreward.rewards.chart_tables import read_table, relative_distance, rnss
from vlreward.rewards.drawn import read_source
from vlreward.sandbox.inside.calls import CALLS
from vlreward.types import Rollout

MAX_SCRIPT = 20_000
"""Characters; a longer script is judged as empty."""
MAX_COLORS = 50
MAX_SERIES, MAX_LENGTH = 50, 200
"""Series, and numbers of each, that are compared; further ones only count."""
HEX = re.compile(r"#[0-9a-fA-F]{6}")
SETTINGS = frozenset("figsize xlim ylim bbox_to_anchor xytext xy rect gridspec_kw width_ratios height_ratios".split())
"""Arguments whose numbers are no data."""
COLOR_KEYS = frozenset("color colors c facecolor facecolors edgecolor edgecolors fc ec markerfacecolor markeredgecolor ecolor".split())
TEXT_KEYS = frozenset("label labels title xlabel ylabel zlabel s text tick_label xticklabels yticklabels".split())
TEXT_CALLS = {
    **dict.fromkeys("title suptitle xlabel ylabel set_title set_xlabel set_ylabel set_zlabel set_label legend".split(), 0),
    **dict.fromkeys("set_xticklabels set_yticklabels annotate supxlabel supylabel".split(), 0),
    **dict.fromkeys("xticks yticks set_xticks set_yticks".split(), 1),
    **dict.fromkeys("text figtext".split(), 2),
}
"""Call -> position of the argument that is shown."""


@dataclass
class Script:
    """What a plotting script says, as far as its text shows it."""

    calls: Counter[str] = field(default_factory=Counter)
    grids: Counter[tuple[int, int]] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    colors: list[str] = field(default_factory=list)
    """Distinct, as #rrggbb"""
    series: list[list[float]] = field(default_factory=list)
    """Lists and tuples of at least two numbers"""


def read_script(code: str) -> Script | None:
    """The five dimensions of a script; None where it is no Python."""
    if len(code) > MAX_SCRIPT:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # Python's remarks on the answer's style
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    script = Script()
    colors: dict[str, None] = {}
    settings: set[ast.expr] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            settings |= {keyword.value for keyword in node.keywords if keyword.arg in SETTINGS}
            _read_call(node, script, colors)
        elif isinstance(node, ast.List | ast.Tuple) and len(node.elts) > 1 and node not in settings:
            numbers = [number for number in map(_number, node.elts) if number is not None]
            words = list(_texts(node))
            if len(numbers) == len(node.elts):
                script.series.append(numbers)
            elif len(words) == len(node.elts) and not all(map(_hex, words)):
                script.texts.update(words)
    script.colors = list(colors)[:MAX_COLORS]
    return script


def _read_call(node: ast.Call, script: Script, colors: dict[str, None]) -> None:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in CALLS:
        script.calls[name] += 1
    if name in ("subplots", "subplot", "add_subplot", "GridSpec", "add_gridspec", "subplot2grid"):
        script.grids[_grid(node)] += 1
    if name in TEXT_CALLS and len(node.args) > TEXT_CALLS[name]:
        script.texts.update(_shown(node.args[TEXT_CALLS[name]]))
    for keyword in node.keywords:
        if keyword.arg in TEXT_KEYS:
            script.texts.update(_shown(keyword.value))
        elif keyword.arg in COLOR_KEYS:
            colors.update((color, None) for color in map(_hex, _texts(keyword.value)) if color)


def _grid(node: ast.Call) -> tuple[int, int]:
    """Rows and columns that a call asks for; (1, 1) where they are not literal."""
    shape = node.args[0].elts if node.args and isinstance(node.args[0], ast.Tuple) else node.args  # subplot2grid takes a pair
    values = [_number(argument) for argument in shape[:2]]
    values += [None] * (2 - len(values))
    for keyword in node.keywords:
        if keyword.arg in ("nrows", "ncols"):
            values[keyword.arg == "ncols"] = _number(keyword.value)
    first, second = (1 if value is None else int(value) for value in values)
    return (first // 100, first // 10 % 10) if first > 100 and len(node.args) == 1 else (first, second)


def _number(node: ast.expr) -> float | None:
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign, node = -1, node.operand
    value = node.value if isinstance(node, ast.Constant) else None
    return sign * float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e100 else None


def _texts(node: ast.expr) -> Iterator[str]:
    """The string that a node is, or the strings that a list or tuple holds."""
    for item in node.elts if isinstance(node, ast.List | ast.Tuple) else [node]:
        if isinstance(item, ast.Constant) and isinstance(item.value, str):
            yield item.value


def _shown(node: ast.expr) -> list[str]:
    """Strings given one by one; those of a list of at least two are counted with the lists."""
    texts = list(_texts(node))
    return texts if not isinstance(node, ast.List | ast.Tuple) or len(texts) == 1 else []


@lru_cache(maxsize=4096)
def _hex(text: str) -> str | None:
    """A colour's name or code as #rrggbb."""
    if HEX.fullmatch(text):
        return text.lower()
    from matplotlib.colors import is_color_like, to_hex

    return to_hex(text) if len(text) <= 40 and text.lower() != "none" and is_color_like(text) else None


@register("chart_rules")
@dataclass(kw_only=True)
class ChartRules(Reward):
    """Mean agreement of the answered plotting script's text with `target.code` in five dimensions, without running it. In [0, 1].

    type: F1 of plotting calls; layout: F1 of the grids asked for; text: F1 of the strings that are shown (titles, labels, legends, lists
    of words); color: distinct named or #rrggbb colours, 1 - CIEDE2000 / 100 alike, matched one to one, as F1; data: lists of
    numbers matched one to one, number by number, as F1. With `target.table` as well, data is instead `table_rnss` of the script's numbers
    and the table's. A script that is no Python scores 0. The script is the last fenced block of the last `<answer>`, else of the text.

    Source: the textual stage of MSRL (arXiv 2508.13587), whose five dimensions these are; its exact formulas are not public.

    Known cheats: code that is never executed, or runs into an error, counts as much as code that draws (put `chart_runs` before it in a
    gate and `chart_match` beside it); piling up strings, calls and numbers (F1); data written as formulas is not
    seen (such a reference leaves the data out of the mean).

    Example: {text: "plt.bar(['x', 'y'], [10, 19])", target: {code: "plt.bar(['x', 'y'], [10, 20])"}} -> 0.995
    """

    needs = ("text", "target.code")

    def one(self, rollout: Rollout) -> tuple[float, str]:
        code, table = rollout.sample.target["code"], rollout.sample.target.get("table")
        wanted = _reference(code) if isinstance(code, str) else None
        if wanted is None:
            raise DataError(f"target.code is {str(code)[:80]!r}, expected a script of at most {MAX_SCRIPT} characters")
        if table is not None and not isinstance(table, str):
            raise DataError(f"target.table is {str(table)[:80]!r}, expected a text: rows by newline, cells by ' | '")
        script = read_script(read_source(rollout.text or ""))
        if script is None or not any((script.calls, script.grids, script.texts, script.series)):
            return 0.0, "no plotting script"
        parts = {
            "type": multiset_f1(script.calls.elements(), wanted.calls.elements()),
            "layout": multiset_f1(script.grids.elements(), wanted.grids.elements()),
            "text": multiset_f1(script.texts.elements(), wanted.texts.elements()),
            "color": fscore(common_colors(script.colors, wanted.colors), len(script.colors), len(wanted.colors)),
        }
        if table:
            parts["data"] = rnss(read_table(table).numbers(), np.array(list(itertools.chain(*script.series))))
        elif wanted.series:
            parts["data"] = series_f1(script.series, wanted.series)
        return sum(parts.values()) / len(parts), ", ".join(f"{name} {value:.2f}" for name, value in parts.items())


def series_f1(answered: Sequence[Sequence[float]], wanted: Sequence[Sequence[float]]) -> float:
    """F1 of the numbers of series matched one to one, number by number in order, each 1 - relative distance alike."""
    counts = sum(map(len, answered)), sum(map(len, wanted))
    a, w = (np.full((min(len(series), MAX_SERIES), MAX_LENGTH), np.nan) for series in (answered, wanted))
    for rows, series in ((a, answered), (w, wanted)):
        for row, numbers in zip(rows, series, strict=False):
            row[: len(numbers)] = numbers[:MAX_LENGTH]
    alike = np.nan_to_num(1 - np.minimum(relative_distance(w[:, None], a[None, :]), 1)).sum(-1)
    return fscore(float(alike[linear_sum_assignment(alike, maximize=True)].sum()), *counts)


@lru_cache(maxsize=512)
def _reference(code: str) -> Script | None:
    return read_script(code)
