"""What a step on preference pairs logs, under our names."""

from __future__ import annotations

import time
from typing import Any

from vlreward.vlm.record import Record

NAMES = {
    "loss/preference": "loss", "pair/accuracy": "rewards/accuracies", "pair/margin": "rewards/margins", "pair/chosen": "rewards/chosen",
    "pair/rejected": "rewards/rejected", "logp/chosen": "logps/chosen", "logp/rejected": "logps/rejected", "entropy": "entropy",
    "grad_norm": "grad_norm", "lr": "learning_rate",
}  # fmt: skip
"""Our name -> TRL's. `pair/*` are the rewards that are implied: beta times the log-ratio of policy and reference."""


class PairRecord(Record):
    """Logs each step to the run folder, moves the progress bar, and says when to save."""

    def __init__(self, trainer: Any):
        super().__init__(trainer)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.began = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        logs = logs or {}
        if "loss" not in logs:
            return
        figures = {ours: float(logs[theirs]) for ours, theirs in NAMES.items() if logs.get(theirs) is not None}
        self.trainer.folder.log(state.global_step, **figures, **{"time/update": time.monotonic() - self.began})
        self.progress.advance(accuracy=figures.get("pair/accuracy", float("nan")))
