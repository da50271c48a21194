"""The policy: a vision-language model and its processor, read from a folder."""

from __future__ import annotations

from typing import Any

from vlreward.models.folders import trainable_model

ADAPTER = "adapter_config.json"
VISION = ("visual", "vision_tower", "multi_modal_projector")
"""What the vision part is called in transformers' models."""
LANGUAGE = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""The linear layers that a LoRA goes into, as a pattern of module names."""


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


def freeze_vision(policy: Any) -> None:
    """Leave the vision tower and its projector out of the training."""
    for name in VISION:
        if hasattr(policy.model, name):
            getattr(policy.model, name).requires_grad_(False)
