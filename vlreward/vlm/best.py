"""Held-out evaluations in the course of a run, and the policy that did best at one of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vlreward.pieces import whole
from vlreward.run import meet, rank
from vlreward.types import RewardTable, Rollout

if TYPE_CHECKING:
    from vlreward.vlm.trainer import VLGRPOTrainer

FOLDER = "best"


class HeldOut:
    """Evaluates every so many steps, by `evaluate(phase, step)`."""

    def __init__(self, trainer: VLGRPOTrainer, evaluate: Callable[[str, int], tuple[list[Rollout], RewardTable]]):
        self.trainer, self.evaluate = trainer, evaluate
        block = trainer.config.eval
        assert block is not None, "there is nothing to evaluate on"
        self.every, self.keep_best = block.every, block.keep_best

    def after(self, step: int) -> dict[str, float]:
        """Figures of the evaluation that is due after this step; nothing where none is. Keeps the policy if it is the best so far."""
        last = step == self.trainer.config.optim.steps
        if not self.every or (step % self.every and not (self.keep_best and last)):
            return {}
        with whole(self.trainer.model):
            _, table = self.evaluate(f"step_{step}", step)
        figures = {f"held_out/{name}": table.scores[:, column].nanmean().item() for column, name in enumerate(table.names)}
        figures["held_out/total"] = table.total.nanmean().item()
        if self.keep_best and figures["held_out/total"] > self.trainer.best.get("total", -float("inf")):
            self._keep(step)
            self.trainer.best = {"step": step, "total": figures["held_out/total"]}
        return figures

    def _keep(self, step: int) -> None:
        place = folder_of(self.trainer.folder.path, step)
        aside = place.with_suffix(".writing")
        self.trainer.save_model(str(aside), _internal_call=True)
        meet()
        if rank() == 0:
            shutil.rmtree(place, ignore_errors=True)
            os.replace(aside, place)


def folder_of(run: Path, step: float) -> Path:
    """Where the policy after a step is kept while it is the best one."""
    return run / FOLDER / f"step-{int(step):06d}"


def forget_others(run: Path, step: float) -> None:
    """Drop policies that are not the best one any more. Only once a checkpoint knows of it, so that a run can always go on."""
    if rank() == 0:
        for other in (run / FOLDER).glob("step-*"):
            if other != folder_of(run, step):
                shutil.rmtree(other)


def hand_over(run: Path, step: float) -> None:
    """The best policy becomes the run's `policy`, whole or not at all."""
    if rank() == 0:
        aside = run / "policy.writing"
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(folder_of(run, step), aside)
        shutil.rmtree(run / "policy", ignore_errors=True)
        os.replace(aside, run / "policy")
    meet()
