"""The program inside bubblewrap: imports matplotlib once, then gives every script a process of its own.

zygote    waits for a job, forks a keeper, and never sees what is in the job
keeper    reads the script, forks the script's process, takes its document, kills it, replays the document, answers
script    runs the hostile code; its only way out is the pipe on which the keeper expects a document
"""

from __future__ import annotations

import ast
import base64
import contextlib
import gc
import importlib
import json
import os
import random
import select
import signal
import struct
import sys
import time
import types
import zlib
from typing import Any

from vlreward.sandbox.inside import process

READY = b"R"
SVG = b"s"
"""The kind of a job whose source is an SVG instead of a script."""
CHANNEL = 3
"""File descriptor on which a script's process hands its document over."""
MAX_TEXT = 6000
"""Characters of all literals but plain numbers; more of them hold an encoded picture rather than a chart's words."""
MAX_LITERALS = 4000
"""Numbers and texts in one script; more of them are pixels rather than data."""
PRELOAD = ("numpy", "matplotlib.pyplot", "mpl_toolkits.mplot3d", "matplotlib.dates", "pandas", "seaborn", "resvg_py")
"""Imported where installed."""

FONTS = {"font.sans-serif": ["DejaVu Sans"], "font.serif": ["DejaVu Serif"], "font.monospace": ["DejaVu Sans Mono"]}
"""matplotlib's own fonts; the others of its default lists are not there, and each is looked for at each text."""


def main() -> None:
    """Serve jobs on standard input until it is closed. The one argument is JSON: limits, and the system call filter in base64."""
    setup = json.loads(sys.argv[1])
    setup["filter"] = base64.b64decode(setup["filter"])
    sys.argv = ["script.py"]
    for name in PRELOAD:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    warm()
    process.hide_memory()
    gc.collect()
    gc.disable()  # no child lives long enough to need it, and a collection copies every shared page
    os.write(1, READY)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a document that names odd fonts must not fill the file behind it with warnings
    while job_waits():
        keeper = os.fork()
        if keeper == 0:
            status = 1
            try:
                serve(setup)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(keeper, 0)
        if status:
            send({"outcome": "error", "message": "the figure cannot be drawn"})


def warm() -> None:
    """Fill matplotlib's caches by drawing a figure and replaying it."""
    from matplotlib import pyplot, rcParams

    from vlreward.sandbox.inside import measure, record, replay
    from vlreward.sandbox.inside.document import Reader

    pyplot.switch_backend("agg")
    for key, fonts in FONTS.items():
        rcParams[key] = fonts  # type: ignore[index]
    record.prepare()
    figure, axes = pyplot.subplots()
    axes.plot([1, 2], [3, 4], "o-", label="$x^2$")
    axes.bar([1, 2], [3, 4])
    axes.set(title="title", xlabel="Label")
    axes.legend()
    figure.tight_layout()
    measure.measure(replay.Replay(Reader(record.describe(figure))))
    pyplot.close("all")


def job_waits() -> bool:
    """Block until there is a job; False once the other side has gone. Reads nothing: a job's text must not stay in this process."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll())


def serve(setup: dict[str, Any]) -> None:
    """The keeper's life: one job, one answer."""
    (length,) = struct.unpack("<I", receive(4))
    kind, source = receive(1), receive(length).decode()
    inlet, outlet = os.pipe()
    started = time.monotonic()
    try:
        process.separate(setup["disk_mb"])
    except OSError as error:
        return send({"outcome": "broken", "message": f"a script cannot be separated from others ({error})"})
    script = os.fork()
    if script == 0:
        try:
            enter(outlet, setup)
            perform(kind, source)
        finally:
            os._exit(1)
    os.close(outlet)
    data, ending = collect(inlet, started + setup["wall_seconds"], setup["output_mb"] * process.MEGABYTE)
    if data or ending:
        os.kill(script, signal.SIGKILL)
    status, seconds = end(script)
    answer: dict[str, Any] = {"cpu_seconds": seconds}
    picture = b""
    if ending:
        answer |= ending
    elif not data:
        answer |= verdict(status, seconds, setup["cpu_seconds"])
    else:
        process.drop_capabilities()
        process.limit(setup["memory_mb"], setup["disk_mb"], 10 * setup["replay_seconds"])
        process.confine(setup["filter"])
        signal.setitimer(signal.ITIMER_PROF, setup["replay_seconds"])
        facts, picture = judge(data)
        answer |= facts
        signal.setitimer(signal.ITIMER_PROF, 0)
    send(answer, picture)


def enter(outlet: int, setup: dict[str, Any]) -> None:
    """Turn this process into one that hostile code may have."""
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(outlet, CHANNEL + 1)  # away from a number that is about to be reused
    for number in range(3):
        os.dup2(nothing, number)
    os.dup2(CHANNEL + 1, CHANNEL)
    os.closerange(CHANNEL + 1, 1024)
    os.chdir(process.PRIVATE)
    process.drop_capabilities()
    process.limit(setup["memory_mb"], setup["disk_mb"], setup["cpu_seconds"])
    process.confine(setup["filter"])


def perform(kind: bytes, source: str) -> None:
    """Run the job and hand its document over, or the reason why there is none."""
    from vlreward.sandbox.inside import record, svg

    random.seed(0)
    importlib.import_module("numpy").random.seed(0)
    try:
        document = svg.draw(source) if kind == SVG else run(source)
        header = {"outcome": "no_figure", "message": "no figure was drawn"}
    except record.TooLarge as error:
        document, header = None, {"outcome": "too_large", "message": str(error)}
    except BaseException as error:  # a script may raise what it likes
        first = (str(error).splitlines() or [""])[0]
        document, header = None, {"outcome": "error", "message": f"{type(error).__name__}: {first}"[:300]}
    rest = memoryview(document or record.Writer().finish(header))
    while rest:
        rest = rest[os.write(CHANNEL, rest) :]
    os._exit(0)


def run(code: str) -> bytes | None:
    """Execute a script; the document of the figure that it saved or showed last, else of the current one, if there is any."""
    from matplotlib import pyplot

    from vlreward.sandbox.inside import record

    tree = ast.parse(code)
    if carries_picture(tree):
        raise record.TooLarge("the script holds more literal data than a chart needs")
    program = types.ModuleType("__main__")
    sys.modules["__main__"] = program
    try:
        exec(compile(tree, "script.py", "exec"), program.__dict__)
    except SystemExit as leave:
        if leave.code not in (None, 0):
            raise
    if record.stage.document is None and pyplot.get_fignums():
        record.stage.keep(pyplot.gcf())
    return record.stage.document


def carries_picture(tree: ast.Module) -> bool:
    """Whether a script holds so much literal data that it could copy a picture instead of drawing a chart."""
    literals = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    texts = sum(len(value) for value in literals if isinstance(value, str | bytes))
    digits = sum(value.bit_length() // 4 for value in literals if isinstance(value, int) and value.bit_length() > 64)
    return len(literals) > MAX_LITERALS or texts + digits > MAX_TEXT


def collect(inlet: int, deadline: float, most: int) -> tuple[bytes, dict[str, str] | None]:
    """What comes through the pipe until its other end is closed; with the reason where it was cut off."""
    data = bytearray()
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([inlet], [], [], left)[0]:
            break
        part = os.read(inlet, 1 << 20)
        if not part:
            return bytes(data), None
        data += part
        if len(data) > most:
            return b"", {"outcome": "too_large", "message": f"the figure takes more than {most // process.MEGABYTE} MB"}
    return b"", {"outcome": "late", "message": "the script ran out of time"}


def end(script: int) -> tuple[int, float]:
    """Wait a moment for a script's process to go, then kill it with all that it started. Gives its status and processor seconds."""
    for _ in range(20):
        pid, status, usage = os.wait4(script, os.WNOHANG)
        if pid:
            return status, usage.ru_utime + usage.ru_stime
        select.select([], [], [], 0.005)
    os.kill(script, signal.SIGKILL)
    _, status, usage = os.wait4(script, 0)
    return status, usage.ru_utime + usage.ru_stime


def verdict(status: int, seconds: float, cpu_seconds: int) -> dict[str, str]:
    """Why a script's process left nothing behind."""
    if seconds > cpu_seconds - 0.5:
        return {"outcome": "timeout", "message": f"the script took {cpu_seconds} seconds of processor time"}
    if os.WIFSIGNALED(status):
        return {"outcome": "error", "message": f"the script was killed by signal {os.WTERMSIG(status)}"}
    return {"outcome": "no_figure", "message": "the script left without a figure"}


def judge(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Facts and picture (RGB rows, deflated) of a document."""
    from vlreward.sandbox.inside.document import Reader
    from vlreward.sandbox.inside.measure import measure
    from vlreward.sandbox.inside.replay import Replay

    try:
        document = Reader(data)
        if document.header["outcome"] != "drawn":
            outcome = document.header["outcome"] if document.header["outcome"] in ("no_figure", "too_large") else "error"
            return {"outcome": outcome, "message": str(document.header.get("message"))[:300]}, b""
        replay = Replay(document)
        facts = measure(replay)
    except Exception as error:  # whatever a document makes matplotlib raise, the document is at fault
        return {"outcome": "error", "message": f"the figure cannot be drawn ({type(error).__name__})"}, b""
    picture = zlib.compress(replay.canvas.pixels[..., :3].tobytes(), 1)
    return {"outcome": "drawn", "message": "", "size": [replay.width, replay.height], **facts}, picture


def receive(count: int) -> bytes:
    """`count` bytes of the job. Ends the process where the other side has gone."""
    data = bytearray()
    while len(data) < count:
        part = os.read(0, count - len(data))
        if not part:
            os._exit(0)
        data += part
    return bytes(data)


def send(answer: dict[str, Any], picture: bytes = b"") -> None:
    """Two lengths (uint32), then the answer as JSON and the picture as it is."""
    text = json.dumps(answer).encode()
    rest = memoryview(struct.pack("<II", len(text), len(picture)) + text + picture)
    while rest:
        rest = rest[os.write(1, rest) :]
