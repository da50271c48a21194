"""The policy: a vision-language model and its processor, read from a folder."""

from __future__ import annotations

from typing import Any

from vlreward.models.folders import trainable_model


def read(model: str, device: str = "cpu", half: bool = False) -> tuple[Any, Any]:
    """Model (float32 or bfloat16, all of it trainable) and processor (which pads on the left). Raises ConfigError.

    The folder of a LoRA that was trained here is read with the model it belongs to, and merged into it.
    """
    policy, processor = trainable_model(model, "policy.model", half)
    if hasattr(policy, "merge_and_unload"):
        policy = policy.merge_and_unload()
        policy.requires_grad_(True)
    processor.tokenizer.padding_side = "left"
    return policy.to(device), processor
