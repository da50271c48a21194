"""scripts/environment.sh says in one line why it cannot go on; demo_summary.py writes the demo's figures; bench_rewards.py its ratios."""

import argparse
import importlib.util
import json
import shutil
import statistics
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vlreward.rewards.base import walk
from vlreward.rewards.composite import Composite

ROOT = Path(__file__).parent.parent
TOOLS = "awk basename bash cat cut date df dirname du env grep id mkdir mktemp mv rm sed sh sha256sum tail".split()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout without an environment, and bin/ with the usual tools but no Python and no apt-get."""
    shutil.copytree(ROOT / "scripts", tmp_path / "tree" / "scripts")
    for name in ("constraints.txt", "pyproject.toml"):
        (tmp_path / "tree" / name).write_text("")
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    return tmp_path


def tool(tree: Path, name: str, text: str) -> None:
    (tree / "bin" / name).unlink(missing_ok=True)
    (tree / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
    (tree / "bin" / name).chmod(0o755)


def refusal(tree: Path, script: str = "test.sh") -> str:
    """The one line it ends with."""
    command = [str(tree / "bin" / "bash"), str(tree / "tree" / "scripts" / script)]
    done = subprocess.run(command, env={"PATH": str(tree / "bin")}, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_machine_without_python_is_told_so(tree):
    assert refusal(tree) == "test.sh: Python 3.11 or newer is needed; found no python3 (set PYTHON to another one)"


def test_an_old_python_is_named_with_its_version(tree):
    tool(tree, "python3", '[ "$1" = --version ] && echo "Python 3.9.2" && exit 0; exit 1')
    assert "found Python 3.9.2" in refusal(tree, "demo.sh")


def test_a_python_without_venv_is_told_which_package_to_install(tree):
    tool(tree, "python3", 'case "$*" in *ensurepip*) exit 1;; *version_info\\[:2\\]*) echo 3.11;; esac; exit 0')
    assert "has no venv module; install it as root: apt-get install python3-venv" in refusal(tree)


def test_a_full_disk_is_told_before_anything_is_installed(tree):
    tool(tree, "python3", "exit 0")
    tool(tree, "df", "echo head; echo '/dev/x 100000000 96000000 3200000 97% /'")
    assert "about 9 GB of free disk are needed" in refusal(tree)
    assert not (tree / "tree" / ".venv").exists()


def test_a_half_checkout_is_told_what_is_missing(tree):
    (tree / "tree" / "constraints.txt").unlink()
    assert "constraints.txt is missing" in refusal(tree)


def test_packages_that_cannot_be_downloaded_point_at_the_network(tree):
    made = '*"-m venv"*) mkdir -p .venv/bin; cat "$0" >.venv/bin/python; chmod 755 .venv/bin/python; exit 0;;'
    made = made.replace("chmod", str(shutil.which("chmod")))
    tool(tree, "python3", f'case "$*" in {made} *"-m pip install"*) echo "ERROR: No matching distribution found for uv" >&2; exit 1;; esac')
    command = [str(tree / "bin" / "bash"), str(tree / "tree" / "scripts" / "test.sh")]
    done = subprocess.run(command, env={"PATH": str(tree / "bin")}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("test.sh: Python packages cannot be downloaded; is there a network")
    assert not (tree / "tree" / ".venv" / "up-to-date").exists()


def test_an_environment_that_is_up_to_date_is_left_alone(tree):
    folder = tree / "tree"
    (folder / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("true") or "", folder / ".venv" / "bin" / "python")
    script = "cat constraints.txt pyproject.toml <(pwd) | sha256sum | cut -d ' ' -f 1 > .venv/up-to-date"
    subprocess.run([str(tree / "bin" / "bash"), "-c", script], cwd=folder, check=True)
    ask = f"source {folder}/scripts/environment.sh; pwd; echo $PATH"
    done = subprocess.run(
        [str(tree / "bin" / "bash"), "-c", ask], env={"PATH": str(tree / "bin")}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [str(folder), f"{folder}/.venv/bin:{tree}/bin"]
    assert done.stderr == ""
    (folder / "constraints.txt").write_text("changed")
    assert "Python 3.11 or newer is needed" in refusal(tree)


def test_the_tests_say_what_they_skip_without_bubblewrap_and_install_it_where_they_may(tree):
    (tree / "tree" / "scripts" / "environment.sh").write_text(
        f"set -euo pipefail\ncd {tree / 'tree'}\nas_root_install() {{ echo installing $* >&2; [ -e may-install ]; }}\n"
    )
    for name in ("ruff", "pyright", "pytest"):
        tool(tree, name, "exit 0")
    command = [str(tree / "bin" / "bash"), str(tree / "tree" / "scripts" / "test.sh")]

    def said() -> list[str]:
        done = subprocess.run(command, env={"PATH": str(tree / "bin")}, capture_output=True, text=True, check=True)
        return done.stderr.splitlines()

    missing = "test.sh: bubblewrap is missing, so tests of the sandbox are skipped; install it as root: apt-get install bubblewrap"
    assert said() == ["installing bubblewrap", missing]
    (tree / "tree" / "may-install").touch()
    assert said() == ["installing bubblewrap"]
    tool(tree, "bwrap", "exit 0")
    assert said() == []


def test_the_demo_s_summary_has_exactly_the_promised_figures(tmp_path):
    spec = importlib.util.spec_from_file_location("demo_summary", ROOT / "scripts" / "demo_summary.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    row = {"before": 0.4, "before_low": 0.3, "before_high": 0.5, "after": 0.6, "gain": 0.2, "gain_low": 0.1, "gain_high": 0.3, "count": 9}
    summaries = {
        "score": {"matched_wins": {"total": {"wins": 0.9}, "clip_score": {"wins": 0.8}}, "seconds": 1.5},
        "vlm": {"held_out": {"box_iou": row, "total": {}}, "seconds": 100},
        "flow": {"held_out": {"object_match": {**row, "after": 0.7}}, "seconds": 200},
    }
    for name, summary in summaries.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))
    iou = {"before": 0.4, "after": 0.6, "gain_low": 0.1, "gain_high": 0.3}
    assert module.summarize(tmp_path) == {
        "score": {"matched_wins": 0.9},
        "vlm": {"iou": iou},
        "flow": {"object_match": {**iou, "after": 0.7}},
        "seconds": 301.5,
    }


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # the script sets them
        monkeypatch.setenv(name, "1")
    threads = torch.get_num_threads()
    yield importlib.import_module("bench_rewards")
    torch.set_num_threads(threads)


SMALL = ("box_iou", "box_iou_resized", "box_iou_15", "point_in_box", "detection_f1", "detection_map", "table_rms")


@pytest.mark.parametrize(
    "names", [SMALL, *(pytest.param((name,), marks=pytest.mark.slow) for name in ("chart_runs", "chart_match", "ocr_match"))]
)
def test_the_speed_of_rewards_is_written_where_both_sides_agree(bench, names, tmp_path, capsys):
    bench.main(["--only", *names, "--rounds", "1", "--answers", "16", "--json", str(tmp_path / "speed.json")])
    found = json.loads((tmp_path / "speed.json").read_text())
    assert tuple(found) == names
    for row in found.values():
        assert {"ratio", "low", "high", "peer"} <= set(row)
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert row["count"] == (16 if names == SMALL else 2)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(names)


@pytest.mark.usefixtures("bench")
def test_the_speed_of_clip_is_written_where_both_sides_agree(capsys):
    importlib.import_module("bench_clip").main("--layers 1 --pictures 2 --captions 2 --rounds 1".split())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["open_clip"] * 2 + ["transformers"] * 2
    assert all(float(line[32:].split()[0]) > 0 for line in lines)


def test_speed_is_not_compared_where_the_sides_disagree(bench):
    case = bench.Case(peer="another", ours=lambda: [1.0, 0.5], theirs=lambda: [1.0, 0.25])
    with pytest.raises(AssertionError, match=r"the two sides lie 0\.25 apart"):
        bench.measure("box_iou", case, 1)


def test_an_unknown_reward_cannot_be_measured(bench, capsys):
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--only", "box_iuo"])
    assert "box_iuo" in capsys.readouterr().err


def test_grpo_is_timed_on_both_sides_with_the_same_figures(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = importlib.import_module("bench_grpo")
    threads = torch.get_num_threads()
    options = argparse.Namespace(
        shape="5m", pixels=56, size=3, prompts=2, tokens=4, steps=2, device="cpu", folder=tmp_path, json=tmp_path / "ratios.json"
    )
    script.build("5m", 56, tmp_path / "model", "cpu")
    found = {}
    for options.side in ("trl", "ours"):
        found[options.side] = [script.measure(options)]
    torch.set_num_threads(threads)
    script.report(found, options)
    ratios = json.loads(options.json.read_text())
    assert {"update_ratio", "step_ratio", "generate_ratio", "rollout_ratio", "memory_ratio", "loss_difference"} <= ratios.keys()
    assert ratios["loss_difference"] < 1e-4
    assert ratios["reward_difference"] < 1e-6
    assert ratios["grad_norm_difference"] < 1e-2


def test_likelihoods_are_timed_on_all_sides_with_the_same_scores(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = importlib.import_module("bench_likelihood")
    threads = torch.get_num_threads()
    try:
        script.main(["--pixels", "56", "--pairs", "4", "--texts", "2", "--rounds", "1", "--json", str(tmp_path / "speed.json")])
    finally:
        torch.set_num_threads(threads)
    found = json.loads((tmp_path / "speed.json").read_text())
    assert {"vqa, 2 a picture", "echo, 2 a picture"} == set(found)
    assert {"batched", "one by one"} <= set(found["vqa, 2 a picture"])
    assert all(row["difference"] < 2e-4 and row["batched"]["ratio"] > 0 for row in found.values())
    assert capsys.readouterr().out.count("pairs a second") == 2


def held_out(place: Path, phase: str, shift: float) -> None:
    """An evaluation of ten samples, in a run's folder."""
    place.mkdir(parents=True, exist_ok=True)
    rows = [{"id": str(i), "scores": {"critic": i + shift, "truth": i / 10 - shift / 10, "check": 1.0}} for i in range(10)]
    (place / f"evaluation_{phase}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    steps = [{"reward/critic": 4.5 + k, "reward/truth": 0.45 - k, "reward/check": 1.0} for k in (0, 1)] + [{"evaluation/critic": 5}]
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps))


@pytest.fixture
def bench_proxy(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.chdir(ROOT)
    script = importlib.import_module("bench_proxy")
    figures = script.Figures(tmp_path / "figures.jsonl")
    options = SimpleNamespace(critics=tmp_path, folder=tmp_path, seeds=[7], plot=None, figures=figures)
    for name in ("shipped_reports", "shipped_drawings"):
        held_out(tmp_path / f"{name}-plain-7", "before", 0)
        held_out(tmp_path / f"{name}-plain-7", "after", 2)
        figures.keep(f"{name}-plain-7", script.shown(tmp_path / f"{name}-plain-7"), script.BASE[script.domain(name)])
    monkeypatch.setattr(script, "relatives", lambda name, options: [(ROOT / "assets" / "tiny-critic", name)])
    return script, options


@pytest.mark.parametrize("name", ["shipped_reports", "shipped_drawings"])
def test_only_the_critic_pays_whatever_repairs_it(bench_proxy, name):
    script, options = bench_proxy
    for repair in ("plain", *script.REPAIRS):
        terms = Composite.from_tree(script.rewards(name, repair, options)).terms
        paid = [term for term in terms if term.weight]
        assert [term.name for term in paid] == ["critic" if repair in ("plain", "kl") else "paid"]
        assert "critic" in {reward.kind for reward in walk(paid[0].reward)}
        assert {term.name for term in terms} >= {"critic", "truth", "check"}


def test_the_table_sets_the_critics_gain_beside_the_true_one(bench_proxy):
    script, options = bench_proxy
    cells = script.row("shipped_reports", "plain", options).split(" | ")
    assert cells[:3] == ["| `shipped_reports`", "train-vlm", "plain"]
    deviation = statistics.stdev(range(10))
    assert float(cells[3].split()[0]) == pytest.approx(2 / deviation, abs=1e-3)
    assert float(cells[4].split()[0]) == pytest.approx(-0.2)
    assert script.row("shipped_reports", "kl", options) is None
    (over_training,) = script.curves("shipped_reports", "plain", options)
    assert over_training == ([0, pytest.approx(1 / deviation)], [0.45, -0.55])
