"""Sandboxes that are warm before a script comes, several at a time."""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import tempfile
import threading
import time
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import IO, Literal

import numpy as np

from vlreward.errors import RewardError
from vlreward.sandbox import processes
from vlreward.sandbox.wall import Limits, command

Kind = Literal["python", "svg"]
READY_SECONDS = 600
SLACK_SECONDS = 60
"""Beyond a script's own limit, before a sandbox that does not answer is given up."""
LOOK = 0.9
"""Share of the wall time after which an unfinished script is looked at, while it still can be."""
MAX_SOURCE: dict[Kind, int] = {"python": 20_000, "svg": 200_000}
"""Characters; a longer source is refused. A script of that length holds no more than a few kilobytes of a copied picture."""
REMEMBERED, REMEMBERED_BYTES = 1024, 1 << 18
"""Drawings, and the size of the picture of one."""
LATE = {"outcome": "timeout", "message": "the script slept until its time was over"}
STARVED = {"outcome": "broken", "message": "the script waited too long for its turn on this busy machine"}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What a script drew, as seen on a canvas that the script never touched."""

    outcome: str
    """drawn, error, no_figure, too_large, timeout; or broken, where the sandbox or the machine failed and not the script"""
    message: str = ""
    texts: tuple[tuple[str, bool], ...] = ()
    """(a legible string, whether it stands at a tick), in drawing order"""
    marks: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(kind, distinct colours as #rrggbb) of each visible plotting call"""
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    """Visible panels, xyxy from the top left, 0-1"""
    ink: float = 0.0
    """Share of pixels that are not paper"""
    size: tuple[int, int] = (0, 0)
    """(width, height) in pixels"""
    packed: bytes = b""

    @property
    def drawn(self) -> bool:
        """A figure with something on it."""
        return self.outcome == "drawn" and self.ink > 0

    @property
    def pixels(self) -> np.ndarray:
        """[H,W,3] uint8"""
        width, height = self.size
        rows = zlib.decompressobj().decompress(self.packed, width * height * 3)
        return np.frombuffer(rows, np.uint8).reshape(height, width, 3)


class Sandbox:
    """One bubblewrap with a warm Python in it, which ends with the thread that made it. Raises ConfigError where there cannot be one."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.zygote: int | None = None
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command(limits), stdin=pipe, stdout=pipe, stderr=self.complaints, start_new_session=True, bufsize=0)
        assert self.process.stdin is not None
        os.set_blocking(self.process.stdin.fileno(), False)

    def wait(self) -> None:
        """Return when it is warm. Raises RewardError where it does not start."""
        if self.zygote is None:
            if self._read(1, time.monotonic() + READY_SECONDS) != b"R":
                self.close()
                self.complaints.seek(0)
                lines = self.complaints.read().decode(errors="replace").strip().splitlines() or ["it did not get ready in time"]
                raise RewardError(f"the sandbox did not start: {lines[-1]}")
            self.zygote = processes.last_descendant(self.process.pid)

    def draw(self, source: str, kind: Kind = "python") -> Drawing:
        """Run one script, or render one SVG. A late script is at fault if it slept, the machine if it waited its turn."""
        self.wait()
        data = source.encode(errors="replace")
        looked = time.monotonic() + LOOK * self.limits.wall_seconds
        deadline = time.monotonic() + self.limits.wall_seconds + SLACK_SECONDS
        if not self._write(struct.pack("<I", len(data)) + kind[:1].encode() + data, deadline):
            return self._broken("the sandbox has ended")
        head, slept = self._read(8, looked), False
        if len(head) < 8:
            slept = processes.sleeps(self._script())
            head += self._read(8 - len(head), deadline)
        lengths = struct.unpack("<II", head) if len(head) == 8 else (0, 0)
        body = self._read(sum(lengths), deadline)
        if not lengths[0] or len(body) < sum(lengths):
            return self._broken("the sandbox gave no answer")
        answer = json.loads(body[: lengths[0]])
        if answer["outcome"] == "late":
            answer = LATE if slept else STARVED
        return read(answer, body[lengths[0] :])

    def _script(self) -> int | None:
        """The process in which a script runs; None where there is none."""
        assert self.zygote is not None, "no script runs before the sandbox is ready"
        return next((script for keeper in processes.children(self.zygote) for script in processes.children(keeper)), None)

    def _write(self, data: bytes, deadline: float) -> bool:
        """Whether all of it was taken."""
        assert self.process.stdin is not None
        rest = memoryview(data)
        while rest and ready(self.process.stdin, select.POLLOUT, deadline):
            try:
                rest = rest[os.write(self.process.stdin.fileno(), rest) :]
            except BlockingIOError:
                continue
            except OSError:
                return False
        return not rest

    def _read(self, count: int, deadline: float) -> bytes:
        """`count` bytes, or fewer where the sandbox ended or the deadline passed."""
        assert self.process.stdout is not None
        data = bytearray()
        while len(data) < count and ready(self.process.stdout, select.POLLIN, deadline):
            part = self.process.stdout.read(min(count - len(data), 1 << 20))
            if not part:
                break
            data += part
        return bytes(data)

    def _broken(self, reason: str) -> Drawing:
        self.close()
        return Drawing(outcome="broken", message=reason)

    @property
    def alive(self) -> bool:
        """Whether its outer process still runs."""
        return self.process.poll() is None

    def close(self) -> None:
        """End it and whatever runs in it, also while bubblewrap's inner process does not yet end with the outer one."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGSTOP)  # it starts none from now on
                for inner in processes.children(self.process.pid):  # which may have left the group by now
                    os.kill(inner, signal.SIGKILL)
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()


def ready(pipe: IO[bytes], event: int, deadline: float) -> bool:
    """Wait until a pipe can be read or written, or has come to its end; False where the deadline passed."""
    poll = select.poll()  # `select` takes no descriptor from 1024 on
    poll.register(pipe, event)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def read(answer: dict, packed: bytes) -> Drawing:
    """An answer as a Drawing."""
    if answer["outcome"] != "drawn":
        return Drawing(outcome=answer["outcome"], message=answer["message"])
    width, height = answer["size"]
    return Drawing(
        outcome="drawn",
        texts=tuple((text, tick) for text, tick in answer["texts"]),
        marks=tuple((kind, tuple(colors)) for kind, colors in answer["marks"]),
        boxes=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in answer["boxes"]),
        ink=answer["ink"],
        size=(width, height),
        packed=packed,
    )


class Pool:
    """Several sandboxes, started as work comes and kept warm. What a source drew is remembered."""

    def __init__(self, limits: Limits | None = None, workers: int | None = None):
        self.limits = limits or Limits()
        self._threads = ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 16), "sandbox")
        self._own = threading.local()
        self._started: weakref.WeakSet[Sandbox] = weakref.WeakSet()
        self._remembered: OrderedDict[tuple[str, Kind], Drawing] = OrderedDict()
        self._lock, self._making = threading.Lock(), threading.Lock()
        self._running: set[threading.Event] = set()

    def start(self) -> None:
        """Have one sandbox ready. Raises ConfigError where that is not possible."""
        self._threads.submit(lambda: self._sandbox(threading.Event()).wait()).result()

    def run(self, sources: Sequence[str], kind: Kind = "python") -> list[Drawing]:
        """What each script or SVG draws; equal ones run once. Raises ConfigError where no sandbox can be made."""
        jobs: list[tuple[str, Kind]] = [(source, kind) for source in sources]
        with self._lock:
            known = {job: self._remembered[job] for job in jobs if job in self._remembered}
        fresh = [job for job in dict.fromkeys(jobs) if job not in known]
        stopped = threading.Event()
        self._running.add(stopped)
        try:
            known |= zip(fresh, self._threads.map(lambda job: self._draw(job[0], job[1], stopped), fresh), strict=True)
        except KeyboardInterrupt:
            self.stop()
            raise
        finally:
            self._running.discard(stopped)
        with self._lock:
            for job in fresh:
                fixed = known[job].outcome not in ("broken", "timeout")  # these may end otherwise next time
                if fixed and len(known[job].packed) <= REMEMBERED_BYTES:
                    self._remembered[job] = known[job]
            while len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        return [known[job] for job in jobs]

    def stop(self) -> None:
        """End all sandboxes in the midst of what they do; scripts that wait for one are not run any more."""
        with self._making:  # none is made unseen: the interpreter would wait for its script before it ends
            for stopped in list(self._running):
                stopped.set()
            for sandbox in list(self._started):
                sandbox.close()

    def close(self) -> None:
        """End all sandboxes, as soon as they have finished what they do."""
        self._threads.shutdown()

    def _draw(self, source: str, kind: Kind, stopped: threading.Event) -> Drawing:
        if len(source) > MAX_SOURCE[kind]:
            return Drawing(outcome="too_large", message=f"the source has {len(source):,} characters, more than {MAX_SOURCE[kind]:,}")
        return self._sandbox(stopped).draw(source, kind)

    def _sandbox(self, stopped: threading.Event) -> Sandbox:
        """This thread's own. Raises RewardError where the work was stopped meanwhile."""
        with self._making:
            if stopped.is_set():
                raise RewardError("the work was stopped before a sandbox was ready for it")
            sandbox = getattr(self._own, "sandbox", None)
            if sandbox is None or not sandbox.alive:
                sandbox = self._own.sandbox = Sandbox(self.limits)
                self._started.add(sandbox)
            return sandbox


def shared() -> Pool:
    """This process's pool with default limits."""
    return _shared(os.getpid())


@cache
def _shared(_process: int) -> Pool:
    return Pool()
