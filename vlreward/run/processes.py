"""The processes of a launch, and what their figures depend on: versions, commit, seed."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import platform
import subprocess
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from vlreward import __version__
from vlreward.errors import ConfigError

PACKAGES = ("torch", "torchvision", "transformers", "trl", "diffusers", "peft", "accelerate", "open-clip-torch", "numpy", "pillow")


@contextlib.contextmanager
def quiet(*libraries: str) -> Iterator[None]:
    """Keeps the advice and loading bars of libraries such as transformers off the screen; errors pass."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in libraries:
        talk = importlib.import_module(f"{name}.utils.logging")
        talk.set_verbosity_error()
        talk.disable_progress_bar()
    for name in ("trl", "accelerate", "torch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def rank() -> int:
    """Number of this process among those of a launch by torchrun or accelerate; 0 without."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes were launched."""
    return int(os.environ.get("WORLD_SIZE", "1"))


Device = Literal["auto", "cpu", "cuda"]
"""The key `device` of every configuration."""


def device_of(asked: Device) -> str:
    """'cpu' or 'cuda'. Raises ConfigError where the configuration asks for what is not there."""
    import torch

    found = "cuda" if torch.cuda.is_available() else "cpu"
    if asked == "cuda" and found == "cpu":
        raise ConfigError("is 'cuda', but torch sees no GPU; use 'auto' or 'cpu'", "device")
    return found if asked == "auto" else asked


def meet() -> None:
    """Wait for the other processes, where there are any."""
    if world() > 1:
        import torch.distributed

        torch.distributed.barrier()


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and Python."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def environment() -> dict[str, Any]:
    """Versions and commit that a run's figures depend on."""
    versions = {name: metadata.version(name) for name in PACKAGES if _installed(name)}
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--verify", "-q", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()  # fmt: skip
    return {"vlreward": __version__, "python": platform.python_version(), "versions": versions, "git": commit or None}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
