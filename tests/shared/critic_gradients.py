"""Gradients of a critic's losses by one process and by all of a launch, as one JSON line. Launched by tests/critics/test_processes.py."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from critics_config import small_config, untrained

from vlreward.config import parse
from vlreward.critics.config import TrainCritic
from vlreward.critics.network import Critic
from vlreward.critics.train import build, launched
from vlreward.critics.trainer import Trainer
from vlreward.critics.verdicts import Batch
from vlreward.run import RunFolder, quiet, seed_everything
from vlreward.tiny.preferences import TinyComparisons
from vlreward.types import Comparison

TAUGHT = {"kind": "distilled_levels", "teacher": str(untrained("ordinal"))}
CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "ties": ({"kind": "scalar"}, [{"kind": "bradley_terry", "ties": 0.5, "centre": 0.1}, {"kind": "ties"}]),
    "dropout": ({"kind": "scalar", "layers": 2, "dropout": 0.3}, [{"kind": "regression"}]),
    "latent_pairs": ({"kind": "scalar"}, [{"kind": "latent_pairs", "warmup": 0}]),
    "length_free": ({"kind": "length_free"}, [{"kind": "length_free"}]),
    "experts": ({"kind": "experts", "of": {"look": ["colors"]}}, [{"kind": "bradley_terry", "of": "aspects"}]),
    "words": ({"kind": "ordinal"}, [{"kind": "level_scores"}, {"kind": "ordinal_pairs"}, TAUGHT]),
    "duels": ({"kind": "duels"}, [{"kind": "duels"}]),
    "listwise": ({"kind": "listwise"}, [{"kind": "listwise"}]),
    "steps": ({"kind": "steps"}, [{"kind": "right_steps"}]),
}


def comparisons() -> list[Comparison]:
    """Of three, two and three attempts, of which the last two are equally good and show no picture."""
    first, second, third = TinyComparisons(task="reports", count=3, answers=3).comparisons()
    aspects = {name: values[:2] for name, values in second.aspects.items()}
    facts = {"steps": second.facts["steps"][:2]}
    second = replace(second, rollouts=second.rollouts[:2], scores=second.scores[:2], aspects=aspects, facts=facts)
    blind = tuple(replace(one, sample=replace(one.sample, visuals=())) for one in third.rollouts)
    return [first, second, replace(third, rollouts=blind, scores=(third.scores[0], 0.5, 0.5))]


def gradients(trainer: Trainer, batch: Batch) -> list[torch.Tensor]:
    """Of all weights that are trained, for one micro-batch."""
    trainer.optimizer.zero_grad()
    torch.manual_seed(1)
    trainer._backward(batch, 1.0)
    if batch.launch:
        batch.launch.average(trainer.trained)
    return [torch.zeros_like(weight) if weight.grad is None else weight.grad.clone() for weight in trainer.trained]


def apart(config: TrainCritic, critic: Critic, launch: Any) -> float:
    """The largest difference of the two gradients, as a share of the largest gradient."""
    folder = RunFolder(Path("unused"), config.run)
    trainer = Trainer(config, folder, critic.train(), [], launch)
    alone = gradients(trainer, Batch.of(comparisons()))
    shared = gradients(trainer, Batch.of(comparisons(), launch=launch))
    most = max(float(one.abs().max()) for one in alone)
    assert most > 1e-4, "nothing is learned here"
    return max(float((one - other).abs().max()) for one, other in zip(alone, shared, strict=True)) / most


def main() -> None:
    torch.set_num_threads(1)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place, quiet("transformers"):
        launch = None
        for name, (head, losses) in CASES.items():
            tree = small_config(Path(place), name)
            tree |= {"critic": tree["critic"] | {"head": head, "pixels": [2304, 2304]}, "losses": losses}
            config = parse(TrainCritic, tree)
            launch = launch or launched(config)
            seed_everything(0)
            found[name] = apart(config, build(config, "cpu"), launch)
        assert launch is not None
        assert launch.count == 2, "started without torchrun"
    everyone = launch.gather(found)
    if not launch.rank:
        print(json.dumps({name: max(one[name] for one in everyone) for name in found}))


if __name__ == "__main__":
    main()
