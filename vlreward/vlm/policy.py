"""The policy: a vision-language model and its processor, read from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vlreward.config import locate
from vlreward.errors import ConfigError


def find(model: str) -> Path:
    """The folder of a model, from here or from the package's checkout. Raises ConfigError."""
    place = locate(model)
    if not (place / "config.json").is_file():
        hint = "fetch one with `hf download <name> --local-dir <folder>`"
        raise ConfigError(f"there is no model folder {model!r} here; {hint}", "policy.model")
    return place


def read(model: str, device: str = "cpu") -> tuple[Any, Any]:
    """Model (float32, all of it trainable) and processor (which pads on the left). Runs no code from the folder."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    place = find(model)
    try:
        processor: Any = AutoProcessor.from_pretrained(place, local_files_only=True)
        policy: Any = AutoModelForImageTextToText.from_pretrained(place, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{place} holds no vision-language model that can be read: {str(error).splitlines()[0]}", "policy.model"
        ) from error
    processor.tokenizer.padding_side = "left"
    return policy.to(device), processor
