"""Runs that mark tokens, killed between two updates of one batch of rollouts."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file

from vlreward.config import load, resolved
from vlreward.vlm.config import TrainVLM
from vlreward.vlm.train import train

SPANS = {
    "data": {"kind": "tiny", "task": "spans", "count": 8},
    "policy": {"model": "assets/tiny-vlm-reader", "max_new_tokens": 10},
    "rewards": [{"kind": "temporal_iou"}],
    "advantage": {"kind": "key_tokens", "share": 0.2, "of": {"kind": "group"}},
}
PLATES = {
    "data": {"kind": "tiny", "task": "plates", "count": 8},
    "policy": {"model": "assets/tiny-vlm-reader", "max_new_tokens": 10},
    "rewards": [{"kind": "transcript_match"}, {"kind": "reference_steps", "part": "character", "key": "text", "weight": 0.0}],
    "correction": {"reference": "<answer>{text}</answer>", "steps": "reference_steps", "outcome": "transcript_match"},
}
KILLED = """
import os, signal, sys
from vlreward.run import RunFolder
log = RunFolder.log
def deadly(self, step, **figures):
    log(self, step, **figures)
    if step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
RunFolder.log = deadly
from vlreward.commands import train_vlm
train_vlm(sys.argv[1], ["run.name=killed"], False, False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [SPANS, PLATES], ids=["key_tokens", "correction"])
def test_it_goes_on_with_the_same_tokens_marked(small, tmp_path, blocks):
    optim = {"lr": 1e-3, "steps": 6, "save_every": 3}
    config = small("whole", **blocks, group={"size": 4, "prompts": 2}, optim=optim, trl={"num_iterations": 2})
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(resolved(config)))
    whole = train(config)
    died = subprocess.run([sys.executable, "-c", KILLED, str(file)], capture_output=True, text=True, timeout=200, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
    resumed = train(load(file, ["run.name=killed"], TrainVLM)[0], resume=True)
    first, second = (load_file(folder.path / "policy" / "model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
