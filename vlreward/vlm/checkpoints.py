"""What both trainers say to TRL about checkpoints: where they lie, and how the policy is read back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def aside(trainer: Any) -> Iterator[Path]:
    """The folder of this step's checkpoint, where TRL writes meanwhile; renamed to its name once all is in it."""
    args = trainer.args
    with trainer.folder.checkpoint(trainer.state.global_step) as place:
        usual, args.output_dir = args.output_dir, str(place)
        try:
            yield place
        finally:
            args.output_dir = usual


def read_whole(policy: Any, saved: str) -> None:
    """Put the weights of a saved model into the policy. TRL 1.16 on transformers 5 does not where their names differ (see `trainer.py`)."""
    weights = type(policy).from_pretrained(saved, dtype=policy.dtype, local_files_only=True)
    policy.load_state_dict(weights.state_dict(), strict=True)
