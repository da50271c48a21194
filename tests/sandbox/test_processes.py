import os
import signal
import subprocess
import sys
import time

import pytest

from vlreward.sandbox import processes


@pytest.fixture
def start():
    started = []

    def run(code: str) -> int:
        started.append(subprocess.Popen([sys.executable, "-c", f"print(flush=True)\n{code}"], stdout=subprocess.PIPE))
        assert started[-1].stdout.readline() == b"\n"
        time.sleep(0.3)
        return started[-1].pid

    yield run
    for process in started:
        process.kill()
        process.wait()


def test_only_a_process_that_waits_of_its_own_will_sleeps(start):
    sleep = "import time; time.sleep(99)"
    sleeper, worker, stopped = start(sleep), start("while True: pass"), start(sleep)
    os.kill(stopped, signal.SIGSTOP)
    time.sleep(0.3)
    assert processes.sleeps(sleeper)
    assert not processes.sleeps(worker)
    assert not processes.sleeps(stopped)
    assert not processes.sleeps(None)
    assert not processes.sleeps(2**30)


@pytest.mark.parametrize(
    ("state", "running", "waiting", "asleep"),
    [
        ("S", 0, 0, True),
        ("S", 4, 0, True),
        ("S", 6, 0, False),
        ("S", 0, 6, False),
        ("S", 3, 3, False),
        ("D", 0, 0, False),
        ("R", 0, 0, False),
    ],
)
def test_sleep_is_what_is_left_of_a_life_of_ten_seconds(monkeypatch, tmp_path, state, running, waiting, asleep):
    born = (time.clock_gettime(time.CLOCK_BOOTTIME) - 10) * os.sysconf("SC_CLK_TCK")
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(f"7 (a) b) {state} 1 {'0 ' * 17}{born:.0f} 0 0")
    (tmp_path / "7" / "schedstat").write_text(f"{running * 10**9} {waiting * 10**9} 99")
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert processes.sleeps(7) == asleep


def test_children_are_found_and_followed_to_the_end(start):
    code = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)']).wait()"
    outer = start(code)
    (inner,) = processes.children(outer)
    assert outer in processes.children(os.getpid())
    assert processes.last_descendant(outer) == inner
    assert processes.children(inner) == []
    os.kill(inner, signal.SIGKILL)
