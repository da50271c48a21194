"""`vlreward align`: a configuration in, an aligned generator and its run folder out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vlreward.data.source import check_files
from vlreward.errors import ConfigError
from vlreward.flow.config import Align
from vlreward.flow.given import singly
from vlreward.flow.processes import Processes
from vlreward.flow.steered import ready, steered
from vlreward.flow.trainer import Trainer
from vlreward.rewards.composite import Composite
from vlreward.run import RunFolder, device_of, quiet
from vlreward.statistics import gains


def evaluate(config: Align, resume: bool = False, fresh: bool = False) -> RunFolder:
    """Only the held-out evaluation of the generator as it comes, in a run folder of its own (`<run.name>-eval`)."""
    assert config.eval is not None, "there is nothing to evaluate on"
    config = replace(config, run=replace(config.run, name=f"{config.run.name}-eval"))
    with _opened(config, "eval", resume, fresh) as trainer:
        trainer.folder.rewind(-1)
        if config.eval and config.eval.steer:
            ready(config.eval.steer, trainer)
        trainer.evaluate("before", "train")
        phases, summary = ["before"], dict[str, Any](command="eval")
        if config.eval and config.eval.steer:
            summary["steer"] = steered(trainer)
            phases.append("after")
        figures = gains(*(trainer.folder.read(f"evaluation_{phase}.jsonl") for phase in phases))
        trainer.folder.summary(summary | {"seconds": trainer.seconds, "held_out": figures})
        return trainer.folder


def train(config: Align, resume: bool = False, fresh: bool = False) -> RunFolder:
    """Run a configuration; its folder."""
    with _opened(config, "align", resume, fresh) as trainer:
        trainer.fit()
        return trainer.folder


@contextlib.contextmanager
def _opened(config: Align, command: str, resume: bool, fresh: bool) -> Iterator[Trainer]:
    """A trainer in its run folder, whose status says how it ended."""
    if command == "align" and config.eval and config.eval.steer:
        raise ConfigError("is for `vlreward eval`; a training is measured on plain pictures, so remove it", "eval.steer")
    processes = Processes(device_of(config.device))
    samples = config.data.samples()
    held_out = config.eval.data.samples() if config.eval else []
    offline = config.group.pictures == "given"
    alone = singly(samples) if offline else samples
    check_files((sample.id, visual) for sample in alone for visual in sample.visuals if offline)
    Composite([term for term in config.rewards.terms if term.weight or not offline]).check([] if config.group.score else alone, "data")
    config.rewards.check(held_out, "eval.data")
    folder = RunFolder.open(config.run, command, config, resume, fresh)
    with folder.working(), quiet("transformers", "diffusers"):
        trainer = Trainer(config, folder, samples, held_out, processes.device, processes)
        try:
            yield trainer
        except BaseException:
            trainer.judges.stop()
            raise
