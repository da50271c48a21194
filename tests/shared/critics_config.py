"""The smallest configuration of train-critic, and untrained critics in folders."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def small_config(folder: Path, name: str) -> dict[str, Any]:
    return {
        "run": {"name": name, "seed": 3, "folder": str(folder)},
        "data": {"kind": "tiny", "task": "reports", "count": 12},
        "eval": {"data": {"kind": "tiny", "task": "reports", "count": 6, "holdout": True}},
        "critic": {"model": str(ROOT / "assets" / "tiny-vlm-teller"), "pixels": [9216, 9216]},
        "batch": 4,
        "micro_batch": 2,
        "optim": {"lr": 1e-3, "steps": 5, "save_every": 3, "schedule": "linear"},
        "device": "cpu",
    }


@cache
def untrained(kind: str) -> Path:
    """The folder of an untrained critic with a head of that kind, for the rest of the process."""
    import torch

    from vlreward.config import parse
    from vlreward.critics.heads.base import Head
    from vlreward.critics.network import Critic
    from vlreward.models.folders import trainable_model

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    torch.manual_seed(0)
    trunk, processor = trainable_model(str(ROOT / "assets" / "tiny-vlm-teller"), "model")
    Critic(trunk, processor, parse(Head, {"kind": kind}), (9216, 9216)).save(folder)
    return folder
