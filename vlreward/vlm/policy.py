"""The policy: a vision-language model and its processor, read from a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from vlreward.config import locate
from vlreward.errors import ConfigError

ADAPTER = "adapter_config.json"
VISION = ("visual", "vision_tower", "multi_modal_projector")
"""What the vision part is called in transformers' models."""
LANGUAGE = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""The linear layers that a LoRA goes into, as a pattern of module names."""


def find(model: str) -> Path:
    """The folder of a model or of a LoRA, from here or from the package's checkout. Raises ConfigError."""
    place = locate(model)
    if not any((place / name).is_file() for name in ("config.json", ADAPTER)):
        hint = "fetch one with `hf download <name> --local-dir <folder>`"
        raise ConfigError(f"there is no model folder {model!r} here; {hint}", "policy.model")
    return place


def read(model: str, device: str = "cpu", half: bool = False) -> tuple[Any, Any]:
    """Model (float32 or bfloat16, all of it trainable) and processor (which pads on the left). Runs no code from the folder.

    The folder of a LoRA that was trained here is read with the model it belongs to, and merged into it.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    place = find(model)
    try:
        if (place / ADAPTER).is_file():
            from peft import PeftModel

            base = find(json.loads((place / ADAPTER).read_text())["base_model_name_or_path"])
        else:
            base = place
        processor: Any = AutoProcessor.from_pretrained(place, local_files_only=True)
        dtype = torch.bfloat16 if half else torch.float32
        policy: Any = AutoModelForImageTextToText.from_pretrained(base, dtype=dtype, local_files_only=True)
        if base != place:
            policy = PeftModel.from_pretrained(policy, str(place)).merge_and_unload()
            policy.requires_grad_(True)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{place} holds no vision-language model that can be read: {str(error).splitlines()[0]}", "policy.model"
        ) from error
    processor.tokenizer.padding_side = "left"
    return policy.to(device), processor


def freeze_vision(policy: Any) -> None:
    """Leave the vision tower and its projector out of the training."""
    for name in VISION:
        if hasattr(policy.model, name):
            getattr(policy.model, name).requires_grad_(False)
