"""What an advantage reads of each token, for a batch of rollouts of the trainer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad

from vlreward.vlm.attribution import SIGNALS, Reading, attribution, of_all, shuffled
from vlreward.vlm.prompts import Prompt, read

if TYPE_CHECKING:
    from vlreward.vlm.trainer import VLGRPOTrainer


class Signals:
    """Finds them, with the policy."""

    def __init__(self, trainer: VLGRPOTrainer):
        self.trainer = trainer

    def __call__(self) -> dict[str, torch.Tensor]:
        """name -> [B,T] over the rollouts of all processes; empty for an advantage that reads none."""
        trainer, start = self.trainer, time.monotonic()
        wanted = trainer.config.advantage.reads
        if not wanted:
            return {}
        found = self._attributed([name for name in wanted if name in SIGNALS])
        trainer._count("time/signals", time.monotonic() - start)
        return {name: of_all(values, trainer.written) for name, values in found.items()}

    def _attributed(self, names: list[str]) -> dict[str, torch.Tensor]:
        trainer, clips = self.trainer, self.trainer.config.policy.clips
        turn = f"{trainer.config.run.seed}/frames/{trainer.batches}"

        def reordered(row: int) -> Prompt:
            return read(trainer.processing_class, trainer.base, shuffled(trainer.samples[row], clips, f"{turn}/{row}"), clips)

        def logps(places: list[int], reading: Reading) -> tuple[torch.Tensor, torch.Tensor]:
            return trainer._logps([trainer.rows[i] for i in places], [trainer.written[i] for i in places], reading, self._width)

        return attribution(names, trainer.rows, trainer.samples, trainer._prompt, reordered, logps) if names else {}

    @property
    def _width(self) -> int:
        return max(map(len, self.trainer.written))

    def leave_out(self, out: dict[str, Any], learned: torch.Tensor | None) -> None:
        """Take the tokens that are not to be learned out of the loss, and of what it is divided by."""
        if learned is None:
            return
        trainer, mask = self.trainer, out["completion_mask"] * out.get("tool_mask", 1)
        kept = pad(trainer._mine(learned), (0, max(0, mask.shape[1] - learned.shape[1])))[:, : mask.shape[1]].to(mask)
        mine = (mask * kept).sum()
        out["tool_mask"] = mask * kept
        all_of_them: Any = trainer.accelerator.gather(mine)
        out["num_items_in_batch"] = all_of_them.sum()
        trainer.figures["learned"] = float(mine / mask.sum().clamp(min=1))
