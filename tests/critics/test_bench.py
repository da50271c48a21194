"""The table of critics is made of runs of the shipped configurations."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    threads = torch.get_num_threads()
    yield importlib.import_module("bench_critics")
    torch.set_num_threads(threads)


def test_a_line_of_the_table_has_accuracy_calibration_length_and_speed(bench, tmp_path, capsys):
    small = ["optim.steps=1", "data.count=4", "eval.data.count=4", "batch=2"]
    bench.main(["length_free", "--folder", str(tmp_path), "--set", *small])
    found = json.loads((tmp_path / "table.json").read_text())["length_free"]
    assert found["task"] == "reports"
    assert 0 <= found["low"] <= found["mean"] <= found["high"] <= 1
    assert found["count"] == 4
    assert found["seconds_per_1000"] > 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("| `length_free` | reports | ")


def test_an_unknown_critic_cannot_be_measured(bench, capsys):
    with pytest.raises(SystemExit, match="2"):
        bench.main(["scaler"])
    assert "unknown scaler; known: clips, duels, experts" in capsys.readouterr().err
