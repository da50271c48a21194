"""What a policy makes of a critic: the critic's reward and the true one over training, side by side, and what repairs the gap.

    python scripts/bench_critics.py                      # first: trains the critics of configs/critic/tiny_*.yaml into runs/critics
    python scripts/bench_proxy.py                        # each of them as the only reward, over three seeds: hours
    python scripts/bench_proxy.py steps --repairs par kl gate ensemble   # an ensemble: seeds 8 and 9 in runs/critics/seed-8, seed-9
    python scripts/bench_proxy.py shipped_reports shipped_drawings       # assets/tiny-critic
    python scripts/bench_proxy.py --table --plot curves.png

A critic of drawings is the reward of `align` (configs/align/tiny_objects.yaml), one of reports that of `train-vlm`
(configs/vlm/tiny_fgaif.yaml). The true reward stands beside it with weight 0: whether the picture holds what was asked for
(`object_match`), how much of a report is true (`hallucination`). Neither is seen by the policy.

Repairs: `par` puts the critic through a sigmoid around its mean before training (Preference As Reward); `ensemble` is the mean of critics
that were trained with other seeds, of the shipped one and another head, minus their deviation; `kl` pulls towards the policy before;
`gate` pays only where an independent check passes: a CLIP score at least that of the policy before, or a report of the form that reports
have.

What a run showed is a line of `--figures` (assets/figures/proxy.jsonl), and a run that is there is not made again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml
from figures import KEPT, Figures
from recipes import run

from vlreward.statistics import interval

ROOT = Path(__file__).parent.parent / "configs"
THING = r"\w+ (circle|square|triangle|cross)"
TRUTH: dict[str, dict[str, Any]] = {
    "align": {"kind": "object_match"},
    "vlm": {
        "kind": "hallucination",
        "objects": ["circle", "square", "triangle", "cross"],
        "attributes": {"color": ["red", "green", "blue", "yellow", "purple", "cyan"]},
    },
}
"""What the critic should stand for."""
CHECK: dict[str, dict[str, Any]] = {
    "align": {"kind": "clip_score", "model": "assets/tiny-clip"},
    "vlm": {
        "kind": "text_pattern",
        "pattern": rf"( {THING} \[\d+, \d+, \d+, \d+\]\.){{2}} {THING} (left of|right of|above|below) {THING}\.",
    },
}
"""What the gate asks for."""
BASE = {"align": ROOT / "align" / "tiny_objects.yaml", "vlm": ROOT / "vlm" / "tiny_fgaif.yaml"}
SETTINGS = {
    "align": ["optim.epochs=8", "eval.every=0", "save_every=1000", "eval.data.count=256"],
    "vlm": ["advantage={kind: group}", "optim.steps=40", "optim.save_every=1000", "eval.data.count=128"],
}
KL = {"align": "objective.beta=1.0", "vlm": "trl.beta=0.4"}
COLUMNS = 4
"""Panels of a plot, side by side."""
REPAIRS = ("par", "ensemble", "kl", "gate")
KIN = (8, 9)
"""Seeds of the two more critics of an ensemble."""


SHIPPED = {"shipped_reports": "vlm", "shipped_drawings": "align"}
"""Names of assets/tiny-critic."""


def domain(name: str) -> str | None:
    """Which trainer a critic can be the reward of."""
    if name in SHIPPED:
        return SHIPPED[name]
    task = yaml.safe_load((ROOT / "critic" / f"tiny_{name}.yaml").read_text())["data"]["task"]
    return {"drawings": "align", "reports": "vlm"}.get(task)


def folder_of(critics: Path, name: str, seed: int | None = None) -> Path:
    """Where scripts/bench_critics.py leaves a critic; of another seed, in a folder of that seed."""
    if name in SHIPPED:
        return ROOT.parent / "assets" / "tiny-critic"
    stem = yaml.safe_load((ROOT / "critic" / f"tiny_{name}.yaml").read_text())["run"]["name"]
    return (critics if seed is None else critics / f"seed-{seed}") / stem / "critic"


def rewards(name: str, repair: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """What the policy is trained on first, then what only watches: the bare critic, the truth, the check."""
    kind = domain(name)
    assert kind, name
    plain: dict[str, Any] = {"kind": "critic", "path": str(folder_of(options.critics, name))}
    watching = [{**TRUTH[kind], "name": "truth", "weight": 0.0}, {**CHECK[kind], "name": "check", "weight": 0.0}]
    if repair in ("plain", "kl"):
        return [{**plain, "name": "critic"}, *watching]
    paid = plain
    if repair in ("par", "ensemble"):
        paid = centred(plain, name, options)
    if repair == "ensemble":
        kin = [({"kind": "critic", "path": str(folder)}, of) for folder, of in relatives(name, options)]
        paid = {"kind": "cautious_mean", "of": [paid, *(centred(one, of, options) for one, of in kin)]}
    if repair == "gate":
        level = before(name, "check", options)[0] if kind == "align" else 0.5
        paid = {"kind": "gate", "when": CHECK[kind], "then": centred(plain, name, options), "at_least": level}
    return [{**paid, "name": "paid"}, {**plain, "name": "critic", "weight": 0.0}, *watching]


def relatives(name: str, options: argparse.Namespace) -> list[tuple[Path, str]]:
    """The other critics of an ensemble, and whose scores before training tell their level: other seeds, or another head."""
    if name in SHIPPED:
        other = {"vlm": "steps", "align": "ties"}[SHIPPED[name]]
        return [(folder_of(options.critics, other), other)]
    return [(folder_of(options.critics, name, seed), name) for seed in KIN]


def centred(reward: dict[str, Any], name: str, options: argparse.Namespace) -> dict[str, Any]:
    """A critic in [0, 1], steepest at its mean before training; a deviation of its scores there is one step."""
    level, deviation = before(name, "critic", options)
    return {"kind": "centred_sigmoid", "of": reward, "reference": level, "slope": 1 / max(deviation, 1e-6)}


def before(name: str, term: str, options: argparse.Namespace) -> tuple[float, float]:
    """Mean and deviation of a term on held-out samples before training, from the plain run of the first seed."""
    level, deviation = options.figures[f"{name}-plain-{options.seeds[0]}"]["before"][term]
    return level, deviation


def scores(place: Path, phase: str, term: str) -> dict[str, float]:
    """Held-out sample -> score."""
    rows = [json.loads(line) for line in (place / f"evaluation_{phase}.jsonl").read_text().splitlines()]
    return {row["id"]: row["scores"][term] for row in rows if row["scores"][term] == row["scores"][term]}


def train(name: str, repair: str, seed: int, options: argparse.Namespace) -> None:
    """One run, unless it is known."""
    kind, label = domain(name), f"{name}-{repair}-{seed}"
    assert kind, name
    if label in options.figures:
        return
    overrides = [f"run.seed={seed}", f"rewards={json.dumps(rewards(name, repair, options))}", *SETTINGS[kind]]
    overrides += [KL[kind]] if repair == "kl" else []
    run(BASE[kind], label, overrides, options.folder)
    options.figures.keep(label, shown(options.folder / label), BASE[kind])


def shown(place: Path) -> dict[str, Any]:
    """Of the critic, the truth and the check: level and deviation before, each held-out sample's gain, rollouts' means over training."""
    found: dict[str, dict[str, Any]] = {"before": {}, "gains": {}, "training": {}}
    steps = [json.loads(text) for text in (place / "metrics.jsonl").read_text().splitlines()]
    for term in ("critic", "truth", "check"):
        first, last = (scores(place, phase, term) for phase in ("before", "after"))
        found["before"][term] = [mean(first.values()), stdev(first.values())]
        found["gains"][term] = {sample: round(last[sample] - first[sample], 4) for sample in first if sample in last}
        found["training"][term] = [round(one[f"reward/{term}"], 4) for one in steps if f"reward/{term}" in one]
    return found


def gain(runs: Sequence[dict[str, Any]], term: str, unit: float = 1.0) -> str:
    """Mean gain over seeds with its interval over held-out samples, and each seed's."""
    each = [{sample: value / unit for sample, value in one["gains"][term].items()} for one in runs]
    shared = set.intersection(*(set(one) for one in each))
    found = interval([mean(one[sample] for one in each) for sample in sorted(shared)])
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}] ({' '.join(f'{mean(one.values()):+.2f}' for one in each)})"


def known(name: str, repair: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The runs of those seeds that were made."""
    labels = [f"{name}-{repair}-{seed}" for seed in options.seeds]
    return [options.figures[label] for label in labels if label in options.figures]


def row(name: str, repair: str, options: argparse.Namespace) -> str | None:
    """A line of the table, of the seeds that were run."""
    runs, kind = known(name, repair, options), domain(name)
    if not runs:
        return None
    _, deviation = before(name, "critic", options)
    trainer = {"align": "align", "vlm": "train-vlm"}[str(kind)]
    cells = [f"`{name}`", trainer, repair, gain(runs, "critic", deviation), gain(runs, "truth"), gain(runs, "check").split(" (")[0]]
    return "| " + " | ".join(cells) + " |"


def plot(names: Sequence[str], options: argparse.Namespace) -> None:
    """A panel for each critic and repair that was run: the critic's mean reward (in its deviations before training) and the true one over
    training, thin a seed's, thick their running mean over a tenth. Panels of one trainer have the same axes."""
    from matplotlib import pyplot

    found = [(name, repair, curves(name, repair, options)) for name in names for repair in ("plain", *REPAIRS)]
    found = [(name, repair, seeds) for name, repair, seeds in found if seeds]
    rows = -(-len(found) // COLUMNS)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(3.1 * COLUMNS, 2.2 * rows + 0.4), layout="constrained")
    for axis in axes.flat[len(found) :]:
        axis.set_visible(False)
    for axis, (name, repair, seeds) in zip(axes.flat, found, strict=False):
        alike = [curve for other, _, those in found if domain(other) == domain(name) for curve in those]
        both = (axis, axis.twinx())
        for side, (one, color) in enumerate(zip(both, ("tab:orange", "tab:blue"), strict=True)):
            every = [value for curve in alike for value in curve[side]]
            one.set_ylim(min(every), max(every))
            one.tick_params(labelsize=7, colors=color, axis="y")
            for seed in seeds:
                one.plot(seed[side], color=color, lw=0.6, alpha=0.5)
            middle = [mean(values) for values in zip(*(seed[side] for seed in seeds), strict=True)]
            span = max(1, len(middle) // 10)
            one.plot([mean(middle[max(0, k - span) : k + span + 1]) for k in range(len(middle))], color=color, lw=1.8)
        axis.tick_params(labelsize=7, axis="x")
        axis.set_title(f"{name}, {repair} ({len(seeds)} seed{'s' * (len(seeds) > 1)})", fontsize=8)
    figure.suptitle("orange, left: critic, in deviations above the policy before; blue, right: true reward; over training", fontsize=9)
    figure.savefig(options.plot, dpi=110)


def curves(name: str, repair: str, options: argparse.Namespace) -> list[tuple[list[float], list[float]]]:
    """The critic's and the true mean reward at each step, of each seed that was run."""
    made = []
    for one in known(name, repair, options):
        level, deviation = before(name, "critic", options)
        made.append(([(value - level) / deviation for value in one["training"]["critic"]], one["training"]["truth"]))
    return made


def main() -> None:
    trained = [path.stem.removeprefix("tiny_") for path in sorted((ROOT / "critic").glob("tiny_*.yaml"))] + [*SHIPPED]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of critics; all that were trained by default")
    parser.add_argument("--repairs", nargs="*", choices=REPAIRS, default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[7, 8, 9])
    parser.add_argument("--critics", type=Path, default=Path("runs/critics"))
    parser.add_argument("--folder", type=Path, default=Path("runs/proxy"))
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--figures", type=Path, default=KEPT / "proxy.jsonl")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    options.figures = Figures(options.figures)
    names = [name for name in options.names or trained if domain(name) and (options.table or folder_of(options.critics, name).is_dir())]
    if missing := sorted(set(options.names) - set(names)):
        parser.error(f"{', '.join(missing)}: no critic of drawings or reports in {options.critics}")
    if not options.table:
        for seed in options.seeds:
            for name in names:
                for repair in ("plain", *options.repairs):
                    train(name, repair, seed, options)
    print("| critic | trainer | reward | critic, deviations | true reward | check |\n|---|---|---|---|---|---|")
    for name in names:
        for repair in ("plain", *REPAIRS):
            if line := row(name, repair, options):
                print(line)
    if options.plot:
        plot([name for name in names if row(name, "plain", options)], options)


if __name__ == "__main__":
    main()
