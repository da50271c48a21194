"""`vlreward train-critic`: a configuration in, a critic and its run folder out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from vlreward.config import resolved
from vlreward.critics.config import TrainCritic
from vlreward.critics.evaluate import judge_together
from vlreward.critics.measures import Judged, figures, row
from vlreward.critics.network import CARD, HEAD, Critic, adapt, read_card
from vlreward.critics.trainer import Trainer
from vlreward.errors import ConfigError, DataError
from vlreward.models.folders import fill, freeze_vision, load_weights, model_folder, trainable_model
from vlreward.run import Progress, RunFolder, device_of, quiet, seed_everything
from vlreward.run.launch import Launch
from vlreward.statistics import gains
from vlreward.types import Comparison, RewardOutput, RewardTable

DIVIDING = ("FSDP", "DEEPSPEED")
"""Kinds of launch that lay weights or moments in pieces."""
LOGGED = 48
"""Held-out rollouts that are logged with their pictures."""


def train(config: TrainCritic, resume: bool = False, fresh: bool = False) -> RunFolder:
    """Judge held-out comparisons, train, judge them again; the run's folder, with the critic in `critic/`.

    Goes on from the newest checkpoint where there is one. Raises UserError.
    """
    start = time.monotonic()
    launch = launched(config)
    check(config, launch.count)
    comparisons = config.data.comparisons()
    held_out = measurable(config)
    with quiet("transformers"):
        seed_everything(config.run.seed)
        critic = build(config, launch.device)
        folder = RunFolder.open(config.run, "train-critic", config, resume, fresh)
        with folder.working():
            found = folder.latest()
            folder.rewind(found[0] if found else -1)
            if config.eval and not (folder.path / "evaluation_before.jsonl").exists():
                _evaluate(config, folder, critic, held_out, "before", 0, launch)
            seed_everything(config.run.seed)
            trainer = Trainer(config, folder, critic, comparisons, launch)
            trainer.earlier = time.monotonic() - start
            if found:
                trainer.resume(found[1])
            trainer.train()
            if not launch.rank:
                critic.save(folder.path / "critic")
            summary: dict[str, Any] = {"command": "train-critic", "steps": config.optim.steps, "comparisons": len(comparisons)}
            if config.eval:
                judged = _evaluate(config, folder, critic, held_out, "after", config.optim.steps, launch)
                if not launch.rank:
                    before, after = (folder.read(f"evaluation_{phase}.jsonl") for phase in ("before", "after"))
                    summary |= {"held_out": gains(before, after), "critic": figures(judged)}
            folder.summary(summary | {"seconds": trainer.seconds})
    return folder


def evaluate(config: TrainCritic, resume: bool = False, fresh: bool = False) -> RunFolder:
    """Only judge the held-out comparisons with the critic as it is, in a run folder of its own (`<run.name>-eval`)."""
    start = time.monotonic()
    config = replace(config, run=replace(config.run, name=f"{config.run.name}-eval"))
    launch = launched(config)
    held_out = measurable(config)
    with quiet("transformers"):
        seed_everything(config.run.seed)
        critic = build(config, launch.device)
        folder = RunFolder.open(config.run, "eval", config, resume, fresh)
        with folder.working():
            folder.rewind(-1)
            judged = _evaluate(config, folder, critic, held_out, "after", 0, launch)
            if not launch.rank:
                rows = folder.read("evaluation_after.jsonl")
                seconds = time.monotonic() - start
                folder.summary({"command": "eval", "held_out": gains(rows), "critic": figures(judged), "seconds": seconds})
    return folder


def build(config: TrainCritic, device: str) -> Critic:
    """The critic that training starts from. Raises ConfigError."""
    block = config.critic
    trunk, processor = trainable_model(block.model, "critic.model", half=block.bf16 and block.lora > 0)
    if block.lora and hasattr(trunk, "merge_and_unload"):
        trunk = trunk.merge_and_unload()
    trunk.requires_grad_(block.freeze != "trunk")
    critic = Critic(trunk, processor, block.head, block.pixels, block.clips)
    place = model_folder(block.model)
    if (place / CARD).is_file() and read_card(place, "critic.model")["head"] == resolved(block.head):
        fill(critic.network, load_weights(place / HEAD, "critic.model"), place / HEAD, "critic.model")
    if block.lora:
        adapt(critic, block.lora, block.model)
    if block.freeze == "vision":
        freeze_vision(critic.plain_trunk)
    return critic.to(device)


def measurable(config: TrainCritic) -> list[Comparison]:
    """The held-out comparisons, none without `eval`. Raises DataError where no two attempts at a sample differ in worth."""
    found = config.eval.data.comparisons() if config.eval else []
    if found and not any(len(set(given)) > 1 for one in found for given in (one.scores, *one.aspects.values())):
        raise DataError(f"eval.data: in all {len(found)} comparisons the attempts are equally good, so there is no order to measure")
    return found


def launched(config: TrainCritic) -> Launch:
    """The processes of this run. Raises ConfigError for a launch that lays the critic in pieces."""
    launch = Launch(device(config))
    if launch.kind in DIVIDING:
        problem = f"is {launch.kind}, and train-critic keeps a whole critic in each process; use configs/accelerate/ddp.yaml"
        raise ConfigError(problem, "distributed_type")
    return launch


def check(config: TrainCritic, count: int) -> None:
    """Raise ConfigError where so many processes cannot share a micro-batch."""
    size, key = (config.micro_batch, "micro_batch") if config.micro_batch else (config.batch, "batch")
    if size < count:
        raise ConfigError(f"is {size}, the comparisons that all {count} processes read together; expected at least {count}", key)


def device(config: TrainCritic) -> str:
    """'cpu' or 'cuda'. Raises ConfigError where the configuration asks for what is not there."""
    chosen = device_of(config.device)
    if config.critic.bf16 and chosen == "cpu":
        raise ConfigError("is true, which needs CUDA, but the run is on the CPU; remove it", "critic.bf16")
    return chosen


def _evaluate(
    config: TrainCritic, folder: RunFolder, critic: Critic, comparisons: Sequence[Comparison], phase: str, step: int, launch: Launch
) -> list[Judged]:
    """All of them in the first process, nothing in the others."""
    assert config.eval is not None, "there is nothing to evaluate on"
    with Progress(f"evaluate {phase}", len(comparisons)) as progress:

        def done(count: int) -> None:
            progress.advance(min(count * launch.count, progress.total - progress.done))

        judged = judge_together(launch, critic, comparisons, config.eval.batch, done)
    if launch.rank:
        return []
    if phase == "after":
        _log(folder, comparisons, judged, phase, step)
    folder.rows(f"evaluation_{phase}.jsonl", [row(one) for one in judged])
    return judged


def _log(folder: RunFolder, comparisons: Sequence[Comparison], judged: Sequence[Judged], phase: str, step: int) -> None:
    """The first attempts with the critic's scores and the given ones, once."""
    if any(known["phase"] == phase for known in folder.read("rollouts.jsonl")):
        return
    rows = [
        (replace(rollout, group=number), score, given)
        for number, (comparison, one) in enumerate(zip(comparisons, judged, strict=True))
        for rollout, score, given in zip(comparison.rollouts, one.scores, comparison.scores, strict=True)
    ][:LOGGED]
    scores = torch.tensor([[score] for _, score, _ in rows], dtype=torch.float64)
    output = RewardOutput(scores=scores[:, 0], notes=[f"given {given:g}" for _, _, given in rows])
    table = RewardTable(names=("critic",), weights=torch.ones(1, dtype=torch.float64), scores=scores, outputs={"critic": output})
    folder.rollouts(phase, step, [rollout for rollout, _, _ in rows], table)
