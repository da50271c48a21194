"""The lines of the README that draw the evaluation's pictures with diffusers alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vlreward.config import load
from vlreward.flow.config import Align
from vlreward.flow.train import train

SMALLER = ("optim.epochs=1", "optim.lr=4e-2", "optim.schedule=constant", "group.groups=4", "eval.data.count=12", "eval.every=0")


def lines() -> str:
    """The block of the README that loads the adapter."""
    text = Path("README.md").read_text()
    block = next(block for block in re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE) if "load_lora_weights" in block)
    return "\n".join(line[4:] for line in block.splitlines())


def test_diffusers_alone_draws_the_pictures_of_the_last_evaluation(tmp_path, monkeypatch, request):
    code = lines()
    assert len(code.splitlines()) <= 8, "six statements, one of them on several lines"
    assert "vlreward" not in code
    config, _ = load("configs/align/tiny_objects.yaml", [*SMALLER, f"run.folder={tmp_path / 'runs'}"], Align)
    folder = train(config)
    (tmp_path / "assets").symlink_to(Path("assets").resolve())
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    with torch.no_grad():
        exec(code, found)
    rows = {row["id"]: row for row in folder.read("rollouts.jsonl") if row["phase"] == "after"}
    before = {row["id"]: row for row in folder.read("rollouts.jsonl") if row["phase"] == "before"}
    assert len(found["pictures"]) == len(rows) == 12
    moved = 0
    for row, picture in zip(found["rows"], found["pictures"], strict=True):
        ours, first = (np.asarray(Image.open(folder.path / part[row["id"]]["picture"]), dtype=int) for part in (rows, before))
        assert np.abs(np.asarray(picture, dtype=int) - ours).max() <= 1, "a rounding error, at most"
        moved = max(moved, np.abs(ours - first).max())
    assert moved > 10, "the adapter must make a difference"
