"""How alike two drawn charts are in what can be read off them: texts, panels, kinds of marks and their colours."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from vlreward.errors import ConfigError
from vlreward.sandbox.pool import Drawing

COMMAND = re.compile(r"\\[a-zA-Z]+")
LETTER = re.compile(r"[^\W\d_]")
TOUCH = 0.01
"""Panels that overlap by less, in shares of the figure, stand side by side."""
Cell = tuple[int, int, int, int, int, int]


def fscore(common: float, answered: int, wanted: int) -> float:
    """F1 where `common` of `answered` and of `wanted` things agree; 1 where there are none of either."""
    return 2 * common / (answered + wanted) if answered + wanted else 1.0


def multiset_f1(answered: Iterable, wanted: Iterable) -> float:
    """F1 of two multisets under equality."""
    a, w = Counter(answered), Counter(wanted)
    return fscore(sum((a & w).values()), sum(a.values()), sum(w.values()))


def text_f1(answered: Drawing, wanted: Drawing) -> float:
    """F1 of the legible strings; tick labels without a letter are left out, since the axis writes them."""
    return multiset_f1(*([text.strip() for text, tick in drawing.texts if not tick or worded(text)] for drawing in (answered, wanted)))


def worded(text: str) -> bool:
    """Whether a tick label holds a letter that is not of a mathtext command."""
    return bool(LETTER.search(COMMAND.sub("", text)))


def layout_f1(answered: Drawing, wanted: Drawing) -> float:
    """F1 of the panels' places in the grid of panels."""
    return multiset_f1(grid(answered.boxes), grid(wanted.boxes))


def grid(boxes: Sequence[tuple[float, float, float, float]]) -> list[Cell]:
    """(rows, columns, first row, last row, first column, last column) of each panel in the smallest grid that holds all of them."""
    columns = _lanes([(x0, x1) for x0, _, x1, _ in boxes])
    rows = _lanes([(y0, y1) for _, y0, _, y1 in boxes])
    count = 1 + max((row[1] for row in rows), default=0), 1 + max((column[1] for column in columns), default=0)
    return [(*count, *row, *column) for row, column in zip(rows, columns, strict=True)]


def _lanes(spans: list[tuple[float, float]]) -> list[tuple[int, int]]:
    """First and last lane of each span, where there are as many lanes as spans that stand side by side."""
    ends: list[float] = []
    for start, end in sorted(spans, key=lambda span: span[1]):
        if not ends or start > ends[-1] - TOUCH:
            ends.append(end)
    lanes = []
    for start, end in spans:
        inside = [i for i, stop in enumerate(ends) if start < stop - TOUCH / 2 and end > stop - TOUCH]
        lanes.append((inside[0], inside[-1]) if inside else (0, 0))
    return lanes


def type_f1(answered: Drawing, wanted: Drawing) -> float:
    """F1 of the kinds of visible marks, one for each plotting call."""
    return multiset_f1((kind for kind, _ in answered.marks), (kind for kind, _ in wanted.marks))


def color_f1(answered: Drawing, wanted: Drawing) -> float:
    """F1 of the distinct colours of each kind of mark, two colours being 1 - CIEDE2000 / 100 alike, matched one to one."""
    a, w = _palettes(answered), _palettes(wanted)
    common = sum(common_colors(a[kind], w[kind]) for kind in a.keys() & w.keys())
    return fscore(common, sum(map(len, a.values())), sum(map(len, w.values())))


def _palettes(drawing: Drawing) -> dict[str, list[str]]:
    palettes: dict[str, dict[str, None]] = defaultdict(dict)
    for kind, colors in drawing.marks:
        palettes[kind].update(dict.fromkeys(colors))
    return {kind: list(colors) for kind, colors in palettes.items()}


def common_colors(first: Sequence[str], second: Sequence[str]) -> float:
    """The greatest sum of similarities over one-to-one matchings of two lists of #rrggbb."""
    if not first or not second:
        return 0.0
    alike = np.clip(1 - difference(first, second) / 100, 0, 1)
    return float(alike[linear_sum_assignment(alike, maximize=True)].sum())


def difference(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
    """[N,M] CIEDE2000 of two lists of #rrggbb. Raises ConfigError where scikit-image is missing."""
    try:
        from skimage.color import deltaE_ciede2000, rgb2lab
    except ImportError as error:
        raise ConfigError("comparing colours needs the extra 'chart': pip install 'vlreward[chart]'") from error
    a, b = (rgb2lab(np.array([list(bytes.fromhex(color[1:])) for color in colors], dtype=np.float64) / 255) for colors in (first, second))
    return deltaE_ciede2000(a[:, None], b[None, :])
