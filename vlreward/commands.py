"""What `train-vlm`, `align`, `train-critic`, `eval` and `bench` do: read the configuration, run it, write the report, tell the result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from vlreward.config import load
from vlreward.errors import ConfigError, blaming
from vlreward.report.build import write_report
from vlreward.run import RunFolder, rank


def train_vlm(path: str, overrides: list[str], resume: bool, fresh: bool) -> int:
    """Train a vision-language model; 0. Raises UserError for what the user can mend."""
    command = vlm_configuration(path, overrides)
    config, _ = load(path, overrides, command)
    if command.__name__ == "TrainPairs":
        from vlreward.vlm.pair_train import train_pairs as train
    else:
        from vlreward.vlm.train import train
    with blaming(path):
        return _tell(train(config, resume, fresh))


def align(path: str, overrides: list[str], resume: bool, fresh: bool) -> int:
    """Align a generator; 0. Raises UserError for what the user can mend."""
    from vlreward.flow.config import Align
    from vlreward.flow.train import train

    config, _ = load(path, overrides, Align)
    with blaming(path):
        return _tell(train(config, resume, fresh))


def train_critic(path: str, overrides: list[str], resume: bool, fresh: bool) -> int:
    """Train a critic on comparisons; 0. Raises UserError for what the user can mend."""
    from vlreward.critics.config import TrainCritic
    from vlreward.critics.train import train

    config, _ = load(path, overrides, TrainCritic)
    with blaming(path):
        return _tell(train(config, resume, fresh))


def evaluate(path: str, overrides: list[str], resume: bool, fresh: bool) -> int:
    """Only the held-out evaluation of a train-vlm configuration (it has `policy`), an align one (`generator`) or a critic's (`critic`); 0.

    It gets a run folder of its own, `<run.name>-eval`.
    """
    keys = _keys(path)
    if keys and not {"generator", "policy", "critic"} & keys:
        known = "'policy' (train-vlm), 'generator' (align), 'critic' (train-critic)"
        raise ConfigError(f"has none of {known}; there is nothing to evaluate", where=path)
    if "generator" in keys:
        from vlreward.flow.config import Align as Model
        from vlreward.flow.train import evaluate as run
    elif "critic" in keys:
        from vlreward.critics.config import TrainCritic as Model
        from vlreward.critics.train import evaluate as run
    else:
        from vlreward.vlm.train import evaluate as run

        Model = vlm_configuration(path, overrides)
    config, _ = load(path, overrides, Model)
    with blaming(path):
        if config.eval is None:
            raise ConfigError("the key 'eval' is missing; there is nothing to evaluate on", "eval")
        return _tell(run(config, resume, fresh))  # type: ignore[arg-type]


def bench(path: str, overrides: list[str], resume: bool, fresh: bool) -> int:
    """Critics over benchmarks; 0, or 2 where rows could not be read or judged (they are in the summary with their error)."""
    from vlreward.bench.run import Bench
    from vlreward.bench.run import bench as run
    from vlreward.bench.table import table

    config, _ = load(path, overrides, Bench)
    with blaming(path):
        folder = run(config, resume, fresh)
    page = write_report(folder.path)
    summary = json.loads((folder.path / "summary.json").read_text())
    print(table(summary["bench"]))
    print(f"report: {page}")
    return 2 if summary["bad"] or summary["broken"] else 0


def vlm_configuration(path: str | Path, overrides: Sequence[str] = ()) -> type:
    """The class of a train-vlm configuration: one that has `preferences` learns from pairs, any other from rollouts.

    Raises ConfigError for one that says both.
    """
    from vlreward.vlm.config import TrainVLM
    from vlreward.vlm.pair_config import TrainPairs

    in_file = _keys(path)
    keys = in_file | {override.partition("=")[0].split(".")[0] for override in overrides}
    if {"preferences", "group"} <= keys:
        given = "group" if "preferences" in in_file else "preferences"
        raise ConfigError(
            "'preferences' (learns from pairs) and 'group' (from rollouts) exclude each other; start from a file that has only the one "
            "you mean, such as configs/vlm/tiny_dpo.yaml or configs/vlm/tiny_grounding.yaml",
            given,
            str(path) if given in in_file else "command line",
        )
    return TrainPairs if "preferences" in keys else TrainVLM


def _keys(path: str | Path) -> set[str]:
    """The keys at the top of a configuration; none where the file cannot be read, which the loader says."""
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8")) if Path(path).is_file() else None
    except (yaml.YAMLError, UnicodeDecodeError):
        tree = None
    return set(tree) if isinstance(tree, dict) else set()


def _tell(folder: RunFolder) -> int:
    if rank():
        return 0
    page = write_report(folder.path)
    summary = json.loads((folder.path / "summary.json").read_text())
    for name, row in summary.get("held_out", {}).items():
        if not row["count"]:
            print(f"held-out {name}: no sample was judged")
            continue
        line = f"held-out {name}: {_with_interval(row, 'before')}"
        if "gain" in row:
            line += f" -> {_with_interval(row, 'after')}, gain {_with_interval(row, 'gain', '+')}"
        print(f"{line}, n={row['count']}")
    for phase, row in summary.get("pass_at", {}).items():
        print(f"pass@k {phase}: " + ", ".join(f"{k}: {found['mean']:.3f}" for k, found in row.items()))
    if "stopped" in summary:
        print(f"stopped after {summary['steps']} epochs: {summary['stopped']}")
    if "choose" in summary:
        spent = summary["choose"]
        print(
            f"chosen from {spent['answers']:.1f} answers of {spent['tokens']:.1f} tokens a sample; one takes {spent['tokens_single']:.1f}"
        )
    if "steer" in summary:
        spent = summary["steer"]
        print(
            f"{spent['kind']}: {spent['judged']:.1f} pictures judged and {spent['passes']:.1f} network passes a sample; a plain picture "
            f"takes {spent['passes_plain']}"
        )
    if "critic" in summary:
        print(f"critic: {page.parent / 'critic'}, calibration error {summary['critic']['calibration']['ece']:.3f}")
    print(f"report: {page}")
    return 0


def _with_interval(row: Mapping[str, float | None], name: str, sign: str = "") -> str:
    """'0.375 [0.348, 0.402]'; one value has no interval, and where nothing applied there is no mean."""
    mean, low, high = (row[key] for key in (name, f"{name}_low", f"{name}_high"))
    if mean is None:
        return "none"
    return f"{mean:{sign}.3f}" if low is None or high is None else f"{mean:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"
