"""scripts/recipes.py prints what is in the runs, and says what was not run."""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
CONFIG = "configs/vlm/tiny_grounding.yaml"


def summary(before: float, gain: float) -> dict[str, Any]:
    figures = {"before": before, "gain": gain, "gain_low": gain - 0.1, "gain_high": gain + 0.1}
    return {"held_out": {"box_iou": figures, "total": {**figures, "gain": 2 * gain}}, "seconds": 90.2}


@pytest.fixture
def table(monkeypatch, capsys, tmp_path):
    """The cells of the script's last row, for runs in tmp_path."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    recipes = importlib.import_module("recipes")

    def rows(*arguments: str) -> list[list[str]]:
        monkeypatch.setattr(sys, "argv", ["recipes.py", CONFIG, f"--folder={tmp_path}", f"--figures={tmp_path}/figures.jsonl", *arguments])
        recipes.main()
        lines = capsys.readouterr().out.splitlines()
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], lines[-1])]

    return rows


def kept(folder: Path, *runs: dict[str, Any]) -> None:
    (folder / "figures.jsonl").write_text("".join(json.dumps(run) + "\n" for run in runs))


def test_each_seed_has_its_column_and_what_was_not_run_is_left_open(table, tmp_path):
    seventh = {"run": "tiny_grounding-7", **summary(0.4, 0.2), "processor": 61.4}
    kept(tmp_path, seventh, {"run": "tiny_grounding-9", **summary(0.4, 0.3)})
    head, row = table("--seeds", "7", "8", "9", "--control", "--total", "--known")
    assert head == ["config", "held-out", "before", "gain, seed 7", "gain, seed 8", "gain, seed 9", "shuffled rewards", "all rewards",
                    "processor"]  # fmt: skip
    assert row == ["`tiny_grounding`", "`box_iou`", "0.400", "+0.200 [+0.100, +0.300]", "-", "+0.300 [+0.200, +0.400]", "-",
                   "+0.400 [+0.100, +0.300]", "61 s"]  # fmt: skip


def test_a_run_that_is_kept_is_not_run_again_and_a_missing_one_is(table, tmp_path, monkeypatch):
    kept(tmp_path, {"run": "tiny_grounding-7", **summary(0.4, 0.2)})
    asked = []

    def run(command: list[str], **_: object) -> object:
        if command[0] == "git":  # which commit it is
            return SimpleNamespace(stdout="")
        asked.append(command[4:])
        (tmp_path / "tiny_grounding-shuffled").mkdir()
        (tmp_path / "tiny_grounding-shuffled" / "summary.json").write_text(json.dumps(summary(0.4, -0.1)))

    monkeypatch.setattr("subprocess.run", run)
    _, row = table("--control")
    assert asked == [[CONFIG, "run.name=tiny_grounding-shuffled", f"run.folder={tmp_path}", "control=shuffle_rewards"]]
    assert row[4:] == ["-0.100 [-0.200, +0.000]", "90 s by the clock"]
    _, row = table("--control")
    assert len(asked) == 1
    found = json.loads((tmp_path / "figures.jsonl").read_text().splitlines()[-1])
    assert found["run"] == "tiny_grounding-shuffled"
    assert found["held_out"]["box_iou"]["gain"] == -0.1
