import errno

import pytest

from vlreward.cli import main, parser
from vlreward.registry import PACKAGES, parts


def test_help_shows_examples_for_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for command in ("score", "train-vlm", "align", "eval", "report", "list"):
        assert f"vlreward {command}" in said, f"no example of {command}"
    assert parser().prog == "vlreward"


def test_every_family_and_part_is_listed_with_its_first_line(capsys):
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for family in PACKAGES:
        assert f"{family}:" in said
        for name, cls in parts(family).items():
            assert f"  {name}" in said
            assert cls.__doc__, f"{family} {name} has no docstring"


def test_a_reward_card_tells_cheats_keys_and_needs(capsys):
    assert main(["list", "rewards", "box_iou"]) == 0
    said = capsys.readouterr().out
    for part in ("Known cheats:", "arXiv", "floor", "= 0.0", "target.boxes"):
        assert part in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "reward"], "no family is called 'reward'"),
        (["list", "rewards", "box_io"], "Did you mean 'box_iou'?"),
        (["score", "nowhere.yaml"], "there is no configuration file 'nowhere.yaml'"),
        (["eval", "nowhere.yaml"], "there is no configuration file 'nowhere.yaml'"),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_the_users_fault_is_one_line_and_exit_code_two(arguments, message, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert "Traceback" not in said


def test_a_command_without_its_configuration_says_what_is_missing(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["score"])
    assert stop.value.code == 2
    assert "the following arguments are required: config\n" in capsys.readouterr().err


def test_flags_may_stand_among_the_overrides(tmp_path, capsys):
    for words in (["--fresh", "a.b=1"], ["a.b=1", "--fresh"], ["c.d=2", "--fresh", "a.b=1"]):
        assert main(["score", "nowhere.yaml", *words]) == 2
        assert "there is no configuration file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["score", "nowhere.yaml", "--frehs"])
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/a/scores.jsonl"), "runs/a/scores.jsonl: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "rows.jsonl"), "rows.jsonl: Permission denied"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "writing: No space left on device"),
    ],
)
def test_what_the_machine_refuses_is_one_line_too(failure, message, monkeypatch, capsys):
    def refuse(*_):
        try:
            raise failure
        except Exception as error:
            raise RuntimeError("while it was saved") from error

    monkeypatch.setattr("vlreward.score.main", refuse)
    assert main(["score", "c.yaml"]) == 2
    said = capsys.readouterr().err
    assert said == f"vlreward: {message}; when that is mended, --resume goes on from what was saved\n"


def test_our_own_fault_keeps_its_traceback(monkeypatch):
    def fail(*_):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "x")

    monkeypatch.setattr("vlreward.score.main", fail)
    with pytest.raises(FileNotFoundError):
        main(["score", "c.yaml"])
