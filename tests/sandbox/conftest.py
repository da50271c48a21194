"""One sandbox with small limits for all tests, started with a secret in this process's environment and on its disk."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from vlreward.errors import ConfigError
from vlreward.sandbox.pool import Sandbox
from vlreward.sandbox.wall import Limits, check

SECRET = "the expected answer is 42"


@pytest.fixture(scope="session")
def sandbox():
    try:
        check()
    except ConfigError as error:
        pytest.skip(str(error))
    os.environ["VLREWARD_SECRET"] = SECRET
    sandbox = Sandbox(Limits(cpu_seconds=1, wall_seconds=60, replay_seconds=2, memory_mb=600, disk_mb=4, output_mb=4))
    yield sandbox
    sandbox.close()
    del os.environ["VLREWARD_SECRET"]


@pytest.fixture(scope="session")
def hasty(sandbox):
    """A sandbox that waits for no script longer than a few seconds."""
    hasty = Sandbox(replace(sandbox.limits, wall_seconds=5))
    yield hasty
    hasty.close()


@pytest.fixture
def attack(sandbox):
    """Runs a hostile script; the sandbox must outlive it."""

    def run(code: str):
        pid = sandbox.process.pid
        drawing = sandbox.draw(code)
        assert sandbox.alive
        assert sandbox.process.pid == pid
        return drawing

    return run


@pytest.fixture
def secret() -> str:
    return SECRET
