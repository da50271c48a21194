"""Saving and restoring all that the next epoch's numbers depend on."""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from vlreward.flow.objectives.base import Objective
from vlreward.flow.policies import Policies
from vlreward.types import TrainState


def save(folder: Path, state: TrainState, policies: Policies, optimizer: torch.optim.Optimizer, objective: Objective) -> None:
    """Into an empty folder: policies.safetensors (every named weight) and training.pt (optimiser, objective, counters, random states)."""
    save_file(policies.state_dict(), folder / "policies.safetensors")
    name, keys, *rest = np.random.get_state()
    record = {
        "state": asdict(state),
        "optimizer": optimizer.state_dict(),
        "objective": objective.state_dict(),
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
    }
    if torch.cuda.is_available():
        record["cuda"] = torch.cuda.get_rng_state_all()
    torch.save(record, folder / "training.pt")


def restore(folder: Path, policies: Policies, optimizer: torch.optim.Optimizer, objective: Objective) -> TrainState:
    """Put everything back in place; the state that was saved."""
    policies.load_state_dict(load_file(folder / "policies.safetensors"))
    record = torch.load(folder / "training.pt", map_location="cpu", weights_only=True)
    optimizer.load_state_dict(record["optimizer"])
    objective.load_state_dict(record["objective"])
    torch.set_rng_state(record["torch"])
    random.setstate(record["python"])
    name, keys, *rest = record["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    if "cuda" in record and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(record["cuda"])
    return TrainState(**record["state"])
