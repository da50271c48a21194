"""Runs of train-vlm that end in the middle, as by kill -9."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from vlreward.config import load, resolved
from vlreward.run import RunFolder

DEADLY = """
import os, signal, sys
from vlreward.run import RunFolder
log = RunFolder.log
def deadly(self, step, **figures):
    log(self, step, **figures)
    if step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
RunFolder.log = deadly
from vlreward.commands import train_vlm
train_vlm(sys.argv[1], ["run.name=killed"], False, False)
"""


def killed(config: Any, folder: Path, step: int) -> Any:
    """Start the configuration as the run 'killed', which dies once `step` is logged and before it is saved; what to go on with."""
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(resolved(config)))
    died = subprocess.run([sys.executable, "-c", DEADLY, str(file), str(step)], capture_output=True, text=True, timeout=250, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
    return load(file, ["run.name=killed"], type(config))[0]


def same_policy(first: RunFolder, second: RunFolder) -> bool:
    """Whether two runs have saved the same weights, bit by bit."""
    whole, other = (load_file(next((run.path / "policy").glob("*model.safetensors"))) for run in (first, second))
    return whole.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in whole.items())
