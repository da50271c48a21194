"""Held-out pictures made by a steer, beside one plain picture each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from vlreward.errors import ConfigError
from vlreward.flow.steer.base import Steer, Studio
from vlreward.run import Progress

if TYPE_CHECKING:
    from vlreward.flow.trainer import Trainer


def ready(steer: Steer, trainer: Trainer) -> None:
    """Load what it steers by, before any picture is drawn. Raises ConfigError where that, or weights to compare with, is not there."""
    for name in steer.policies - set(trainer.policies.names):
        problem = f"is {steer.kind!r}, which compares with the weights {name!r} below a LoRA; set generator.lora"
        raise ConfigError(problem, "eval.steer.kind")
    steer.load(trainer.device)


@torch.no_grad()
def steered(trainer: Trainer) -> dict[str, float | str]:
    """Make, judge and log the held-out pictures as phase 'after'; what a sample took, and what a plain picture takes."""
    block = trainer.config.eval
    assert block is not None and block.steer is not None, "there is nothing to steer by"
    plan = trainer.held_out_plan("train")
    studio = Studio(
        bind=lambda asked: trainer.bind(asked, plan.guidance), decode=trainer.model.decode, plan=plan, shape=trainer.model.shape(),
        seed=block.seed, batch=block.batch, device=trainer.device,
        condition=lambda prompts: trainer.embeddings(prompts, trainer.device),
        learn=trainer.embeddings.add,
    )  # fmt: skip
    with Progress(block.steer.kind, len(trainer.held_out)) as progress:
        made = block.steer.steer(studio, trainer.held_out, progress.advance)
    rollouts = [replace(rollout, group=number) for number, rollout in enumerate(made)]
    table = trainer.config.rewards(rollouts, trainer.device)
    trainer.folder.rollouts("after", 1, rollouts, table)
    trainer.folder.evaluation("after", rollouts, table)
    if studio.written:
        trainer.folder.rows("refined.jsonl", studio.written)
    each = {name: count / len(rollouts) for name, count in studio.spent.items()}
    return {"kind": block.steer.kind, **each, "passes_plain": plan.steps}
