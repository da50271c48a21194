"""A critic's folder that is not whole, and comparisons that nothing can be learned from, are each one line and exit code 2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from critics_config import small_config, untrained
from PIL import Image

from vlreward.cli import main
from vlreward.rewards.critic import CriticReward

OTHER_HEAD = {"head": {"kind": "scalar", "layers": 2}, "pixels": None, "clips": None}
UNKNOWN_HEAD = {"head": {"kind": "scaler"}, "pixels": None, "clips": None}
HALVES = {
    "no head": ("head.safetensors", None, "half of a critic: head.safetensors is missing"),
    "cut head": ("head.safetensors", b"abc", "cannot read"),
    "another head": ("critic.json", json.dumps(OTHER_HEAD).encode(), "head.safetensors' does not hold this network's weights"),
    "no card": ("critic.json", None, "where no critic was saved"),
    "cut card": ("critic.json", b'{"head": {"ki', "cannot read"),
    "empty card": ("critic.json", b"{}", "does not say head, pixels and clips"),
    "unknown head": ("critic.json", json.dumps(UNKNOWN_HEAD).encode(), "no head is called 'scaler'. Did you mean 'scalar'?"),
    "cut trunk": ("model.safetensors", b"abc", "cannot load"),
    "no trunk": ("model.safetensors", None, "cannot load"),
}


@pytest.mark.parametrize("half", list(HALVES))
def test_a_critic_whose_folder_is_not_whole_is_refused_in_one_line(half, tmp_path, capsys):
    name, content, problem = HALVES[half]
    folder = tmp_path / "critic"
    shutil.copytree(untrained("scalar"), folder)
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    Image.new("RGB", (96, 96), "red").save(tmp_path / "red.png")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"image": "red.png", "caption": "a red thing"}) + "\n")
    tree = {"run": {"name": "s", "folder": str(tmp_path)}, "data": {"path": str(tmp_path / "rows.jsonl")}}
    (tmp_path / "score.yaml").write_text(yaml.safe_dump(tree | {"rewards": [{"kind": "critic", "path": str(folder)}]}))
    assert main(["score", str(tmp_path / "score.yaml")]) == 2
    lines = capsys.readouterr().err.splitlines()
    said = [line for line in lines if line and not line.startswith(("Loading weights", "Writing model shards"))]
    assert len(said) == 1 and problem in said[0] and "rewards.0.path" in said[0], said


def test_training_does_not_go_on_from_half_a_critic(tmp_path, capsys):
    folder = tmp_path / "critic"
    shutil.copytree(untrained("scalar"), folder)
    (folder / "head.safetensors").unlink()
    tree = small_config(tmp_path, "on")
    tree["critic"]["model"] = str(folder)
    (tmp_path / "on.yaml").write_text(yaml.safe_dump(tree))
    assert main(["train-critic", str(tmp_path / "on.yaml")]) == 2
    assert "critic.model: is" in (said := capsys.readouterr().err.strip()) and "half of a critic" in said


def rows(folder: Path, picture: str = "red.png", **attempts) -> dict[str, str]:
    Image.new("RGB", (96, 96), "red").save(folder / "red.png")
    lines = [{"prompt": "What is it?", "image": picture} | attempts] * 8
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"path": str(folder / "rows.jsonl")}


def train(folder: Path, capsys, **blocks) -> str:
    tree = small_config(folder, "run") | blocks
    (folder / "run.yaml").write_text(yaml.safe_dump(tree))
    assert main(["train-critic", str(folder / "run.yaml")]) == 2
    return "\n".join(line for line in capsys.readouterr().err.splitlines() if line.startswith("vlreward:"))


def test_a_missing_picture_is_named_before_anything_starts(tmp_path, capsys):
    said = train(tmp_path, capsys, data=rows(tmp_path, "gone.png", chosen="a", rejected="b"))
    assert "rows.jsonl:1: there is no file" in said and "gone.png' (and 7 more)" in said and "\n" not in said
    assert not (tmp_path / "run").exists()


def test_attempts_that_are_all_equally_good_teach_nothing_and_measure_nothing(tmp_path, capsys):
    tied = rows(tmp_path, responses=["a", "b"], scores=[1, 1])
    assert "none of the 8 comparisons says anything to these losses" in train(tmp_path, capsys, data=tied)
    shutil.rmtree(tmp_path / "run")
    assert "eval.data: in all 8 comparisons the attempts are equally good" in train(tmp_path, capsys, eval={"data": tied})
    assert not (tmp_path / "run").exists()


def test_whole_folders_are_still_read():
    assert CriticReward(path=untrained("scalar")).scope == "rollout"
