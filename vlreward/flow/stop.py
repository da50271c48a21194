"""Ending a run that pleases its reward and displeases a judge that it is not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from vlreward.config import Bound, Positive

PROXY = "reward/total"


@dataclass(frozen=True, kw_only=True)
class Stop:
    """The `stop:` block: what counts as hacking.

    A line is fitted to the last `window` epochs of the reward that is trained on, and one to those of a judge that only watches. The run
    ends where the first rises and the second falls, each by a slope of at least `sigmas` times its own standard error. Both are judged
    on the rollouts of training, so this costs nothing.
    """

    judge: str
    """Name of a term of weight 0."""
    window: Annotated[int, Bound(4)] = 8
    sigmas: Positive = 3.0

    def fires(self, epochs: Sequence[Mapping[str, float]]) -> str | None:
        """Why to stop after these epochs (rows of metrics.jsonl), or None. Epochs that lack one of the two figures are left out."""
        name = f"reward/{self.judge}"
        both = [(row[PROXY], row[name]) for row in epochs if PROXY in row and name in row][-self.window :]
        if len(both) < self.window:
            return None
        (up, up_error), (down, down_error) = (slope(column) for column in zip(*both, strict=True))
        if up <= self.sigmas * up_error or down >= -self.sigmas * down_error:
            return None
        rose, fell = (f"from {column[0]:.3f} to {column[-1]:.3f}" for column in zip(*both, strict=True))
        return f"over {self.window} epochs the reward rose {rose}, while {self.judge!r} fell {fell}: this looks like hacking"


def slope(values: Sequence[float]) -> tuple[float, float]:
    """Slope of the least-squares line through N >= 3 values, one a step, and its standard error."""
    x, y = np.arange(len(values)) - (len(values) - 1) / 2, np.asarray(values, dtype=np.float64)
    rise = float(x @ y / (x @ x))
    rest = y - y.mean() - rise * x
    return rise, float(np.sqrt(rest @ rest / (len(values) - 2) / (x @ x)))
