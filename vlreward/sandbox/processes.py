"""Read off /proc whether a process sleeps of its own will or is kept waiting by a busy machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

PROC = Path("/proc")


def sleeps(process: int | None) -> bool:
    """Whether a process sleeps now and has slept for most of its life; False where that cannot be known.

    Time spent running and time spent runnable, waiting for a processor, are not sleep; nor is waiting for a disk or being stopped.
    """
    try:
        state, _, started = _status(process)
        running, waiting = (int(value) / 1e9 for value in (PROC / str(process) / "schedstat").read_text().split()[:2])
    except OSError:
        return False
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    return state == "S" and age - running - waiting > age / 2


def children(process: int) -> list[int]:
    """The processes that a process has started and that still live."""
    found = []
    for entry in PROC.glob("[0-9]*"):
        try:
            if _status(int(entry.name))[1] == process:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def last_descendant(process: int) -> int:
    """The end of a chain of processes that have one child each."""
    while below := children(process):
        process = below[0]
    return process


def _status(process: int | None) -> tuple[str, int, float]:
    """State, parent, and seconds from boot to start."""
    fields = (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[19]) / os.sysconf("SC_CLK_TCK")
