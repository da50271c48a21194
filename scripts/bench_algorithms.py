"""Every alignment algorithm on the same tiny generator: at an equal budget of reward calls, and at an equal budget of seconds.

    python scripts/bench_algorithms.py                        # all of configs/align/tiny_*.yaml that draw objects: hours
    python scripts/bench_algorithms.py nft tempflow --seeds 7
    python scripts/bench_algorithms.py --table                # the table of what --figures has so far

Each configuration keeps its own settings but for its number of epochs. That follows from `--calls` judgements, and, for a second run, from
as many seconds of one core as the first configuration trains for them; where the two numbers lie within a tenth, one run stands for both.
What a run showed is a line of `--figures` (assets/figures/algorithms.jsonl). A run that is there, of as many epochs, is not made again, nor
is, within a folder, the evaluation of the policy before, which all share. Held-out figures are of 256 prompts; a gain is a prompt's mean
over the seeds, its interval one over prompts. Also measured is what nobody trained on: CLIP's score
(`object_match` where CLIP was trained on), how far two pictures of a prompt lie apart, and the KL to the policy before: nats a dimension,
summed over a rollout of Flow-SDE.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from statistics import mean
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a second is one core's

import torch
import yaml
from figures import KEPT, Figures

from vlreward.config import load
from vlreward.flow import watch
from vlreward.flow.collect import visual
from vlreward.flow.config import Align
from vlreward.flow.kernels.base import kl
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.plan import Plan
from vlreward.flow.rollout import rollout
from vlreward.flow.trainer import Trainer
from vlreward.run import RunFolder, quiet
from vlreward.statistics import interval
from vlreward.types import Rollout, Sample

CONFIGS = Path(__file__).parent.parent / "configs" / "align"
FIRST = "objects"
"""Its seconds are everybody's."""
GENERATOR = "assets/tiny-sd3"
NO_POLICY = "latent_reward"
"""The objective that leaves the generator as it is."""
CLIP = {"kind": "clip_score", "model": "assets/tiny-clip"}
TRUTH = {"kind": "object_match"}
PROMPTS, MEMBERS = 32, 8
"""Held-out prompts and rollouts of each, for diversity and KL."""


def configurations(only: list[str]) -> dict[str, Path]:
    """Name -> file, the first one first."""
    found = {}
    for path in sorted(CONFIGS.glob("tiny_*.yaml"), key=lambda path: (path.stem != f"tiny_{FIRST}", path.stem)):
        tree = yaml.safe_load(path.read_text())
        drawn = tree["data"].get("task") == "objects" and not tree.get("eval", {}).get("steer")
        if drawn and tree["generator"]["model"] == GENERATOR and tree["objective"]["kind"] != NO_POLICY:
            found[path.stem.removeprefix("tiny_")] = path
    unknown = set(only) - set(found)
    if unknown:
        raise SystemExit(f"bench_algorithms.py: there is no {', '.join(sorted(unknown))} among {', '.join(found)}")
    return {name: path for name, path in found.items() if not only or name in only}


class Timed(Trainer):
    """Counts the seconds of one core that its epochs take, and takes the evaluation of the policy before from a run that has it."""

    spent = 0.0
    calls = 0

    def evaluate(self, phase: str, policy: str, quiet: bool = False) -> dict[str, float]:
        made = [place.parent for place in self.folder.path.parent.glob("*/evaluation_after.jsonl")] if phase == "before" else []
        known = next((place for place in made if self._evaluated(place, phase)), None)
        if known is None:
            return super().evaluate(phase, policy, quiet)
        shutil.copy(known / f"evaluation_{phase}.jsonl", self.folder.path)
        return {}

    def _evaluated(self, place: Path, phase: str) -> bool:
        """Whether a run judged as many held-out pictures by the rewards of this one."""
        rows = [json.loads(line) for line in (place / f"evaluation_{phase}.jsonl").read_text().splitlines()]
        return len(rows) == len(self.held_out) and set(self.config.rewards.names) == set(rows[0]["scores"])

    def step(self) -> dict[str, float]:
        began = time.process_time()
        figures = super().step()
        self.spent += time.process_time() - began
        self.calls += int(figures["reward_calls"])
        return figures


def train(path: Path, name: str, options: argparse.Namespace, *overrides: str) -> dict[str, Any]:
    """What one run showed; made first where that is not known."""
    if name in options.figures and f"optim.epochs={options.figures[name]['epochs']}" in overrides:
        return options.figures[name]
    torch.set_num_threads(1)
    terms = yaml.safe_load(path.read_text())["rewards"]
    for watched in (CLIP, TRUTH):
        if all(term["kind"] != watched["kind"] for term in terms):
            terms.append({**watched, "weight": 0.0})
    data = {"kind": "tiny", "task": "objects", "count": options.held_out, "holdout": True}
    held_out = json.dumps({"data": data, "steps": 8, "batch": 64})
    shared = [f"run.name={name}", f"run.folder={options.folder}", f"rewards={json.dumps(terms)}", f"eval={held_out}", "save_every=1000"]
    config, _ = load(path, [*shared, *overrides], Align)
    folder = RunFolder.open(config.run, "align", config, fresh=True)
    with quiet("transformers", "diffusers"):
        assert config.eval is not None, "it was just given"
        trainer = Timed(config, folder, config.data.samples(), config.eval.data.samples(), "cpu")
        trainer.fit()
        shown = {"epochs": config.optim.epochs, "calls": trainer.calls, "seconds": round(trainer.spent, 1), "trained_on": trained_on(terms)}
        shown |= {"kl": departure(trainer), "diversity_base": diversity(trainer, "base")}
        shown |= {"diversity_train": diversity(trainer, trainer.evaluated)}
    folder.status("done")
    return options.figures.keep(name, shown | {"gains": {term["kind"]: gains(folder.path, term["kind"]) for term in terms}}, path)


def gains(place: Path, name: str) -> list[float]:
    """Of each held-out sample, in the order of their ids."""
    before, after = (scores(place, phase, name) for phase in ("before", "after"))
    return [round(after[sample] - before[sample], 4) for sample in sorted(before)]


def trained_on(terms: list[dict[str, Any]]) -> str:
    return next(term["kind"] for term in terms if term.get("weight", 1.0))


def start(trainer: Trainer, sample: Sample) -> torch.Tensor:
    """[MEMBERS,*] noise that belongs to the sample."""
    return trainer.noise.batch(trainer.model.shape(), [("bench", sample.id, member) for member in range(MEMBERS)])


@torch.no_grad()
def diversity(trainer: Trainer, policy: str) -> float:
    """Mean distance of two pictures of a held-out prompt, drawn by the ODE as evaluations are."""
    plan = Plan(sigmas=trainer.grid, kernel=Ode(), policy=policy)
    rollouts = []
    for group, sample in enumerate(trainer.held_out[:PROMPTS]):
        x = rollout(trainer.bind([sample.prompt] * MEMBERS, 1.0), plan, start(trainer, sample), lambda step: torch.empty(0)).x0
        rollouts += [Rollout(sample=sample, made=visual(picture), group=group) for picture in trainer.model.decode(x)]
    return watch.diversity(watch.glances(rollouts))


@torch.no_grad()
def departure(trainer: Trainer) -> float:
    """KL(trained || before) of whole Flow-SDE rollouts, nats a dimension; the last step, which has no noise, is left out."""
    kernel, found = FlowSde(noise=0.7), []
    for sample in trainer.held_out[:PROMPTS]:
        x, velocity = start(trainer, sample), trainer.bind([sample.prompt] * MEMBERS, 1.0)
        total = torch.zeros(MEMBERS)
        for i in range(len(trainer.grid) - 2):
            s, s_next = (trainer.grid[k].expand(MEMBERS) for k in (i, i + 1))
            trained, base = (kernel(x, velocity(x, s, policy), s, s_next) for policy in (trainer.evaluated, "base"))
            total += kl(trained, base, s, s_next)
            keys = [("bench", sample.id, member, i) for member in range(MEMBERS)]
            x = trained.sample(trainer.noise.batch(x.shape[1:], keys))
        found.append(total.mean().item())
    return sum(found) / len(found)


def budgets(path: Path, name: str, seed: int, control: bool, options: argparse.Namespace) -> None:
    """The runs of one configuration and seed: of equal calls, and of equal seconds where those are others."""
    label, fixed = f"{name}-{'shuffled' if control else seed}", [f"run.seed={seed}", *["control=shuffle_rewards"] * control]
    epochs = max(1, round(options.calls / calls_an_epoch(path, name, options)))
    train(path, f"{label}-calls", options, f"optim.epochs={epochs}", *fixed)
    others = None if control or options.only_calls else equal_seconds(f"{label}-calls", seed, options)
    if others:
        train(path, f"{label}-seconds", options, f"optim.epochs={others}", *fixed)


def calls_an_epoch(path: Path, name: str, options: argparse.Namespace) -> float:
    """What an epoch of a configuration judges: of a run that is known, or else of one epoch."""
    known = (shown for run, shown in options.figures.runs.items() if run.rsplit("-", 2)[0] == name or run == f"{name}-epoch")
    shown = next(known, None) or train(path, f"{name}-epoch", options, "optim.epochs=1", "eval.data.count=1")
    return shown["calls"] / shown["epochs"]


def equal_seconds(run: str, seed: int, options: argparse.Namespace) -> int | None:
    """Epochs that a run of equal calls would have at an equal budget of seconds; None where it is that run within a tenth."""
    shown = options.figures[run]
    seconds = options.seconds or options.figures[f"{FIRST}-{seed}-calls"]["seconds"]
    others = max(1, round(shown["epochs"] * seconds / shown["seconds"]))
    return others if abs(others - shown["epochs"]) > 0.1 * shown["epochs"] else None


def of_equal_seconds(run: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """The run at an equal budget of seconds beside one of equal calls, which it may be itself; None where it was not made."""
    second = run.replace("-calls", "-seconds")
    if second in options.figures:
        return options.figures[second]
    known = options.seconds or f"{FIRST}-{seed_of(run)}-calls" in options.figures
    return options.figures[run] if known and equal_seconds(run, seed_of(run), options) is None else None


def seed_of(run: str) -> int:
    """Of a run `<name>-<seed>-calls`."""
    return int(run.split("-")[-2])


def scores(place: Path, phase: str, name: str) -> dict[str, float]:
    """Held-out sample -> score."""
    rows = [json.loads(line) for line in (place / f"evaluation_{phase}.jsonl").read_text().splitlines()]
    return {row["id"]: row["scores"][name] for row in rows}


def gained(shown: list[dict[str, Any]], name: str) -> str:
    """Mean gain over seeds, its interval over held-out prompts, and each seed's own."""
    each = [one["gains"][name] for one in shown]
    found = interval([mean(seeds) for seeds in zip(*each, strict=True)])
    seeds = " ".join(f"{mean(one):+.2f}" for one in each) if len(each) > 1 else ""
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]" + f" ({seeds})" * bool(seeds)


def rank(label: str, shown: list[dict[str, Any]]) -> tuple[bool, bool, str, float]:
    """Controls last; what was trained on the truth first, then by reward; the furthest gain first."""
    goal = shown[0]["trained_on"]
    return "shuffled" in label, goal != TRUTH["kind"], goal, -mean(mean(one["gains"][goal]) for one in shown)


def table(found: dict[str, list[str]], options: argparse.Namespace) -> str:
    """Markdown, one row a configuration that has been run, by what it was trained on and how far that rose; an en dash where no run of
    equal seconds was made, and the seeds of those that were, where they are not all."""
    head = [
        "config",
        "trained on",
        "gain, equal calls",
        "other score",
        "gain, equal seconds",
        "epochs",
        "seconds an epoch",
        "diversity",
        "KL",
    ]
    rows = []
    ordered = sorted(found.items(), key=lambda item: rank(item[0], [options.figures[run] for run in item[1]]))
    for label, runs in ordered:
        shown = [options.figures[run] for run in runs]
        averages = {key: mean(one[key] for one in shown) for key in ("epochs", "seconds", "diversity_base", "diversity_train", "kl")}
        goal = shown[0]["trained_on"]
        other = next(term["kind"] for term in (TRUTH, CLIP) if term["kind"] != goal)
        known = {} if "shuffled" in label else {seed_of(run): of_equal_seconds(run, options) for run in runs}
        timed = {seed: shown for seed, shown in known.items() if shown}
        which = f", seed{'s' * (len(timed) > 1)} {' '.join(map(str, timed))}" if len(timed) < len(runs) else ""
        rows.append([
            f"`{label}`", f"`{goal}`", gained(shown, goal), f"{gained(shown, other).split(' (')[0]}",
            gained(list(timed.values()), goal) + which if timed else "–", f"{averages['epochs']:.0f}",
            f"{averages['seconds'] / averages['epochs']:.1f}",
            f"{averages['diversity_base']:.3f} to {averages['diversity_train']:.3f}", f"{averages['kl']:.2g}",
        ])  # fmt: skip
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="names of configurations, without tiny_")
    parser.add_argument("--calls", type=int, default=3072)
    parser.add_argument("--seconds", type=float, help="of one core; none: as many as the first configuration takes")
    parser.add_argument("--seeds", nargs="+", type=int, default=[7, 8, 9])
    parser.add_argument("--control", nargs="*", default=[FIRST], help="configurations that are run with shuffled rewards, too")
    parser.add_argument("--held-out", type=int, default=256)
    parser.add_argument("--folder", type=Path, default=Path("runs/algorithms"))
    parser.add_argument("--figures", type=Path, default=KEPT / "algorithms.jsonl")
    parser.add_argument("--only-calls", action="store_true", help="no runs of equal seconds")
    parser.add_argument("--table", action="store_true", help="run nothing")
    options = parser.parse_args()
    options.figures = Figures(options.figures)
    chosen = configurations(options.only)
    work = [(name, seed, False) for seed in options.seeds for name in chosen]
    work += [(name, options.seeds[0], True) for name in chosen if name in options.control]
    for name, seed, control in [] if options.table else work:
        budgets(chosen[name], name, seed, control, options)
    labels = {name: [f"{name}-{seed}-calls" for seed in options.seeds] for name in chosen}
    labels |= {f"{name}, shuffled": [f"{name}-shuffled-calls"] for name in chosen}
    there = {label: [run for run in runs if run in options.figures] for label, runs in labels.items()}
    print(table({label: runs for label, runs in there.items() if runs}, options))


if __name__ == "__main__":
    main()
