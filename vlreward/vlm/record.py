"""What a step of TRL's trainer logs, under our names."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from transformers.trainer_callback import TrainerCallback

from vlreward.run import Progress
from vlreward.vlm.suspicion import suspicions

if TYPE_CHECKING:
    from vlreward.vlm.trainer import VLGRPOTrainer


class Record(TrainerCallback):
    """Logs each step to the run folder, moves the progress bar, and says when to save."""

    def __init__(self, trainer: VLGRPOTrainer):
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = self.trainer.folder
        self.rows = folder.read("metrics.jsonl")
        self.said = {row["kind"] for row in folder.read("notices.jsonl")}
        self.progress = Progress("train", args.max_steps, state.global_step)
        self.progress.__enter__()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_save = state.global_step % self.trainer.config.optim.save_every == 0 or state.global_step == args.max_steps

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        logs = logs or {}
        if "loss" not in logs:
            return
        figures, self.trainer.figures = self.trainer.figures, {}
        names = {
            "loss/policy": "loss", "loss/kl": "kl", "entropy": "entropy", "clip_fraction": "clip_ratio/region_mean",
            "grad_norm": "grad_norm", "lr": "learning_rate", "length": "completions/mean_length",
            "truncated": "completions/clipped_ratio",
        }  # fmt: skip
        figures |= {ours: float(logs[theirs]) for ours, theirs in names.items() if logs.get(theirs) is not None}
        if "step_time" in logs:
            figures["time/update"] = logs["step_time"] - figures.get("time/rollout", 0.0) - figures.get("time/reward", 0.0)
        if self.trainer.held_out:
            figures |= self.trainer.held_out.after(state.global_step)
        self.trainer.folder.log(state.global_step, **figures)
        self.rows.append(figures)
        self.warn(state.global_step)
        self.progress.advance(reward=figures.get("reward/total", float("nan")))

    def warn(self, step: int) -> None:
        """Say once a run what looks like cheating, and keep it in notices.jsonl."""
        stage = next((row["stage"] for row in reversed(self.rows) if "stage" in row), 1)
        weights = {term.name: term.weight for term in self.trainer.legs[int(stage) - 1].rewards.terms}
        for kind, text in suspicions([row for row in self.rows if row.get("stage", 1) == stage], weights).items():
            if kind not in self.said:
                self.said.add(kind)
                self.trainer.folder.notice(step, kind, text)
                print(f"step {step}: {text}", file=sys.stderr)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.__exit__()
