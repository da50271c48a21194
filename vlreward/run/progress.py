"""How far long work has come."""

from __future__ import annotations

import sys
import time
from typing import Any

from vlreward.run.processes import rank

LOG_EVERY = 15.0
"""Seconds between progress lines where no terminal shows a bar."""


class Progress:
    """A live bar with rate and time left on a terminal; elsewhere a line now and then. Use as a context manager."""

    def __init__(self, what: str, total: int, done: int = 0):
        self.what, self.total, self.done, self.first = what, total, done, done
        self.start = self.last = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if rank():
            return self
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bar = Bar(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(self.what, total=self.total, completed=self.done, note="")
            self._bar.start()
        else:
            print(f"{self.what}: {self.total} to do" + (f", {self.done} done before" if self.done else ""), file=sys.stderr, flush=True)
        return self

    def advance(self, count: int = 1, **figures: float) -> None:
        """`count` more are done; the figures are shown beside the bar."""
        self.done += count
        note = "  ".join(f"{name} {value:.3g}" for name, value in figures.items())
        now = time.monotonic()
        rate = (self.done - self.first) / max(now - self.start, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, note=f"{rate:.1f}/s  {note}")
        elif rank() == 0 and (now - self.last >= LOG_EVERY or self.done >= self.total):
            self.last = now
            left = (self.total - self.done) / max(rate, 1e-9)
            print(f"{self.what}: {self.done}/{self.total}, {rate:.2f}/s, {left:.0f} s left  {note}", file=sys.stderr, flush=True)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
