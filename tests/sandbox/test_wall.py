import ast
import fcntl
import itertools
import os
import resource
import select
import time
from pathlib import Path

import pytest

from vlreward.errors import ConfigError
from vlreward.sandbox import wall
from vlreward.sandbox.pool import Drawing, Pool, ready

ROOT = Path(wall.__file__).parent


def test_without_bubblewrap_nothing_runs_and_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"needs bubblewrap, which is not installed \(Debian: apt-get install bubblewrap\)"):
        Pool(workers=1).run(["print(1)"])


def test_where_namespaces_are_forbidden_the_reason_and_the_remedy_are_named(monkeypatch, tmp_path):
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"\(bwrap: No permissions to create new namespace\); allow them, by"):
        Pool(workers=1).start()


def test_the_command_shares_nothing_of_this_machine_but_programs(monkeypatch):
    monkeypatch.setattr(wall, "check", lambda: None)
    command = wall.command(wall.Limits())
    assert {"--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--clearenv"} <= set(command)
    assert not {"--bind", "--proc", "--dev", "--share-net"} & set(command)
    shown = [Path(place) for option, place in itertools.pairwise(command) if option == "--ro-bind"]
    for place in shown:
        assert not Path.home().is_relative_to(place)
        assert not Path.cwd().is_relative_to(place)


def test_a_longer_source_than_any_chart_needs_is_refused_unseen():
    assert Pool(workers=1).run(["#" * 20_001])[0].outcome == "too_large"
    assert Pool(workers=1).run(["#" * 200_001], "svg")[0].outcome == "too_large"


def test_equal_scripts_run_once_and_what_may_end_otherwise_runs_again(monkeypatch):
    ran = []

    def draw(self, source, kind, stopped):
        ran.append(source)
        return Drawing(outcome=source)

    monkeypatch.setattr(Pool, "_draw", draw)
    pool = Pool(workers=1)
    first = pool.run(["error", "drawn", "error", "broken", "timeout"])
    assert [drawing.outcome for drawing in first] == ["error", "drawn", "error", "broken", "timeout"]
    assert pool.run(["broken", "timeout", "drawn"])[2] is first[1]
    assert ran == ["error", "drawn", "broken", "timeout", "broken", "timeout"]
    pool.close()


def test_pipes_are_waited_for_whatever_their_number():
    inlet, outlet = os.pipe()
    high = fcntl.fcntl(inlet, fcntl.F_DUPFD, min(2000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1))
    os.close(inlet)
    with os.fdopen(high, "rb", buffering=0) as pipe:
        assert not ready(pipe, select.POLLIN, time.monotonic() + 0.01)
        os.write(outlet, b"x")
        assert ready(pipe, select.POLLIN, time.monotonic())
        pipe.read(1)
        os.close(outlet)
        assert ready(pipe, select.POLLIN, time.monotonic()), "its end counts as well"


def test_what_runs_inside_imports_nothing_of_the_package_but_itself():
    for path in (ROOT / "inside").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vlreward"):
                assert (node.module or "").startswith("vlreward.sandbox.inside"), path


def test_a_figure_of_one_colour_counts_as_not_drawn():
    assert not Drawing(outcome="drawn", ink=0.0).drawn
    assert not Drawing(outcome="error", ink=0.5).drawn
