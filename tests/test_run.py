import importlib.util
import json
import sys

import pytest
import torch
from PIL import Image

from vlreward import registry
from vlreward.data.media import Clip, Picture
from vlreward.errors import ConfigError
from vlreward.rewards.composite import Composite
from vlreward.run import KEPT_CHECKPOINTS, Progress, Run, RunFolder
from vlreward.types import Rollout, Sample


@pytest.fixture
def run(tmp_path):
    return Run(name="test", folder=tmp_path)


def test_an_existing_folder_is_refused_resumed_or_replaced(run):
    folder = RunFolder.open(run, "align", {"a": 1})
    folder.log(1, **{"reward/total": 0.5})
    with pytest.raises(ConfigError, match="--resume to go on with it or --fresh"):
        RunFolder.open(run, "align", {"a": 1})
    assert len(RunFolder.open(run, "align", {"a": 1}, resume=True).read("metrics.jsonl")) == 1
    with pytest.raises(ConfigError, match="another configuration"):
        RunFolder.open(run, "align", {"a": 2}, resume=True)
    with pytest.raises(ConfigError, match="was made by `vlreward align`"):
        RunFolder.open(run, "score", {"a": 1}, resume=True)
    assert RunFolder.open(run, "align", {"a": 2}, fresh=True).read("metrics.jsonl") == []


def test_a_file_of_the_users_own_that_changed_between_sittings_is_told_once(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(registry, "_outside_files", {})
    reward = tmp_path / "mine.py"

    def sitting(text: str) -> RunFolder:
        reward.write_text(f"from vlreward.rewards.base import Reward\nclass Mine(Reward):\n    {text}\n")
        for name in [name for name in sys.modules if name.startswith("vlreward_outside.mine")]:
            del sys.modules[name]  # as in another process
        registry.find("rewards", f"{reward}:Mine")
        return RunFolder.open(run, "align", {"a": 1}, resume=True)

    sitting("level = 1")
    assert capsys.readouterr().err == ""
    folder = sitting("level = 2")
    assert capsys.readouterr().err == f"align: {reward} has changed since this run's last sitting; from here on its new text counts\n"
    assert [row["kind"] for row in folder.read("notices.jsonl")] == ["changed"]
    sitting("level = 2")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_name_that_is_no_folder_of_its_own_is_refused(name):
    with pytest.raises(ConfigError, match="expected the name of a folder"):
        Run(name=name)


def test_only_a_run_is_replaced(run):
    place = run.folder / run.name
    place.mkdir()
    (place / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="so --fresh leaves it alone"):
        RunFolder.open(run, "align", {}, fresh=True)
    assert (place / "thesis.tex").exists()


def test_a_run_that_failed_before_it_kept_anything_is_not_in_the_way(run):
    with pytest.raises(ZeroDivisionError), RunFolder.open(run, "align", {"model": "misspelt"}).working():
        raise ZeroDivisionError
    folder = RunFolder.open(run, "align", {"model": "right"})
    folder.log(1, value=1.0)
    with pytest.raises(ZeroDivisionError), folder.working():
        raise ZeroDivisionError
    with pytest.raises(ConfigError, match="--resume to go on"):
        RunFolder.open(run, "align", {"model": "right"})
    assert json.loads((folder.path / "run.json").read_text())["status"] == "failed"


def test_a_run_that_is_being_started_is_not_taken_over(run):
    RunFolder.open(run, "align", {})
    with pytest.raises(ConfigError, match="--resume to go on"):
        RunFolder.open(run, "align", {})


def test_run_json_tells_versions_and_status(run):
    folder = RunFolder.open(run, "align", {"a": 1})
    folder.status("done")
    known = json.loads((folder.path / "run.json").read_text())
    assert known["status"] == "done"
    assert known["command"] == "align"
    assert known["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_a_checkpoint_appears_only_when_it_is_whole_and_old_ones_go(run):
    folder = RunFolder.open(run, "align", {})
    assert folder.latest() is None
    for step in (1, 2, 30):
        with folder.checkpoint(step) as place:
            (place / "weights").write_text(str(step))
    with pytest.raises(ZeroDivisionError), folder.checkpoint(40) as place:
        (place / "weights").write_text(str(1 / 0))
    latest = folder.latest()
    assert latest is not None
    assert latest[0] == 30
    assert (latest[1] / "weights").read_text() == "30"
    assert len(list((folder.path / "checkpoints").glob("step-??????"))) == KEPT_CHECKPOINTS


def test_rewinding_drops_later_rows_and_a_line_cut_short(run):
    folder = RunFolder.open(run, "align", {})
    for step in range(1, 6):
        folder.log(step, value=step / 2)
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "val')
    folder.rewind(3)
    assert [row["step"] for row in folder.read("metrics.jsonl")] == [1, 2, 3]


def test_rollouts_are_logged_with_scores_boxes_errors_and_their_picture_once(run, tmp_path):
    folder = RunFolder.open(run, "train-vlm", {})
    (tmp_path / "broken.png").write_bytes(b"x")
    picture = Picture(Image.new("RGB", (40, 40), "red"))
    target = {"boxes": [[1, 2, 30, 40]]}
    texts = ["<answer>[1, 2, 30, 40]</answer>", "no"]
    rollouts = [Rollout(sample=Sample(id=str(i), prompt="p", visuals=(picture,), target=target), text=t) for i, t in enumerate(texts)]
    broken = Sample(id="2", prompt="p", visuals=(Picture(tmp_path / "broken.png"),), target={"boxes": "none"})
    table = Composite.from_tree(["box_iou", "answer_format"])([*rollouts, Rollout(sample=broken, text="x")])
    folder.rollouts("train", 4, [*rollouts, Rollout(sample=broken, text="x")], table)
    rows = folder.read("rollouts.jsonl")
    assert [row["total"] for row in rows] == [2.0, 0.0, None]
    assert rows[0]["marks"][0] == {"box": [1.0, 2.0, 30.0, 40.0], "role": "wanted", "label": ""}
    assert rows[0]["picture"] == rows[1]["picture"]
    assert rows[2]["picture"] is None
    assert rows[2]["errors"] == ["box_iou: target.boxes is 'none', expected a list of [x1, y1, x2, y2]"]
    assert len(list((folder.path / "media").iterdir())) == 1


def test_judges_that_break_and_rewards_that_never_apply_are_told_once(run, capsys):
    folder = RunFolder.open(run, "train-vlm", {})
    broken = [Rollout(sample=Sample(id=str(i), prompt="p", target={"boxes": "none"}), text="x") for i in range(3)]
    rewards = Composite.from_tree(["box_iou"])
    for step in (1, 2):
        folder.rollouts("train", step, broken, rewards(broken), [0])
    folder.evaluation("after", broken, rewards(broken))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "train: box_iou broke on 3 of 3 rollouts, which count for nothing; the first: target.boxes is 'none'" in said
    unjudged = [Rollout(sample=Sample(id="a", prompt="p"), text="x")]
    folder.evaluation("before", unjudged, rewards(unjudged))
    assert "before: no reward applies to any of 1 rollouts" in capsys.readouterr().err
    assert [row["kind"] for row in folder.read("notices.jsonl")] == ["broken box_iou", "not judged"]


def test_a_clip_is_stored_as_an_animation_without_loss(run):
    folder = RunFolder.open(run, "align", {})
    frames = torch.rand(3, 3, 8, 8)
    name = folder.media(Clip(frames))
    with Image.open(folder.path / name) as stored:
        assert stored.n_frames == 3  # type: ignore[attr-defined]
        stored.seek(2)
        last = Picture(stored.convert("RGB")).tensor
        assert stored.info["loop"] == 0, "it plays again and again"
        durations = []
        for frame in range(3):
            stored.seek(frame)
            stored.load()
            durations.append(stored.info["duration"])
        assert durations[0] == durations[1] < durations[2], "one sees where it ends"
    assert (last - frames[2]).abs().max() <= 0.5 / 255 + 1e-6


def test_tensorboard_gets_the_figures_or_the_extra_is_named(tmp_path):
    folder = RunFolder.open(Run(name="board", folder=tmp_path, log=("jsonl", "tensorboard")), "align", {})
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(ConfigError, match="track"):
            folder.log(1, value=1.0)
    else:
        folder.log(1, value=1.0)
        assert list((folder.path / "tensorboard").iterdir())


def test_progress_speaks_now_and_then_where_there_is_no_terminal(capsys):
    with Progress("score", 3, done=1) as progress:
        progress.advance(2, reward=0.25)
    said = capsys.readouterr().err
    assert "score: 3 to do, 1 done before" in said
    assert "3/3" in said
    assert "reward 0.25" in said
