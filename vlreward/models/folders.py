"""Where a published checkpoint lies on this machine, and what it holds. Nothing is downloaded, and no code of a checkpoint is run."""

from __future__ import annotations

import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import torch

from vlreward.config import locate
from vlreward.errors import ConfigError

ADAPTER = "adapter_config.json"
"""What makes a folder that of a LoRA."""
VISION = ("visual", "vision_tower", "multi_modal_projector")
"""What the vision part is called in transformers' models."""
LANGUAGE = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""The linear layers that a LoRA goes into, as a pattern of module names."""


def model_folder(model: str, key: str = "model") -> Path:
    """A folder as named, else the repository of that name in the Hugging Face cache. Raises ConfigError about `key`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    folder = locate(model)
    if folder.is_dir():
        return folder
    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise ConfigError(f"is {model!r}, neither a folder nor in the Hugging Face cache: hf download {model}", key) from error


def transformers_folder(model: str, key: str = "model") -> Path:
    """The folder of a model in transformers' form. Raises ConfigError about `key`."""
    folder = model_folder(model, key)
    if not (folder / "config.json").is_file():
        raise ConfigError(f"is {model!r}, expected a folder with a transformers model (config.json is missing)", key)
    return folder


def pretrained(kind: Any, folder: Path, key: str = "model", **options: Any) -> Any:
    """`kind.from_pretrained` of a folder: a tokenizer, a processor, a configuration or a network. Raises ConfigError about `key`."""
    from safetensors import SafetensorError

    try:
        return kind.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ConfigError(f"cannot load {str(folder)!r} as {kind.__name__}: {str(error).splitlines()[0]}", key) from error


def frozen(kind: Any, folder: Path, device: str, key: str = "model", **options: Any) -> Any:
    """A network of a folder as `pretrained` reads it, in evaluation mode, without gradients of its weights."""
    return pretrained(kind, folder, key, **options).eval().requires_grad_(False).to(device)


@cache
def vision_language_model(model: str, device: str) -> tuple[Any, Any]:
    """Frozen model and processor, read once however many rewards share them; float32 on a CPU. Raises ConfigError."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = transformers_folder(model)
    processor = pretrained(AutoProcessor, folder)
    return frozen(AutoModelForImageTextToText, folder, device, dtype=torch.float32 if device == "cpu" else "auto"), processor


def adapted_folders(model: str, key: str) -> tuple[Path, Path]:
    """A model's folder twice, or the folder of a LoRA and that of the model it belongs to. Raises ConfigError about `key`."""
    folder = model_folder(model, key)
    if not (folder / ADAPTER).is_file():
        return folder, transformers_folder(model, key)
    return folder, transformers_folder(json.loads((folder / ADAPTER).read_text())["base_model_name_or_path"], key)


def trainable_model(model: str, key: str, half: bool = False) -> tuple[Any, Any]:
    """A vision-language model (float32 or bfloat16), a LoRA's as peft.PeftModel, and its processor. Raises ConfigError about `key`."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder, base = adapted_folders(model, key)
    processor = pretrained(AutoProcessor, folder, key)
    network = pretrained(AutoModelForImageTextToText, base, key, dtype=torch.bfloat16 if half else torch.float32)
    if folder != base:
        from peft import PeftModel

        if len(processor.tokenizer) > network.get_input_embeddings().weight.shape[0]:
            network.resize_token_embeddings(len(processor.tokenizer), mean_resizing=False)
        try:
            network = PeftModel.from_pretrained(network, str(folder))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ConfigError(f"cannot load the LoRA {str(folder)!r}: {str(error).splitlines()[0]}", key) from error
    return network, processor


def freeze_vision(model: Any) -> None:
    """Leave the vision tower and its projector of a vision-language model out of the training."""
    for name in VISION:
        if hasattr(model.model, name):
            getattr(model.model, name).requires_grad_(False)


def model_file(model: str, key: str = "model") -> Path:
    """A file as named, else `OWNER/REPOSITORY/FILE` in the Hugging Face cache. Raises ConfigError about `key`."""
    file = locate(model)
    if file.is_file():
        return file
    parts = model.split("/")
    if len(parts) > 2:
        cached = model_folder("/".join(parts[:2]), key) / "/".join(parts[2:])
        if cached.is_file():
            return cached
    raise ConfigError(f"is {model!r}, expected a file with weights", key)


def load_weights(path: Path, key: str = "model") -> dict[str, torch.Tensor]:
    """Name -> tensor of a safetensors file or of torch's, a training's `state_dict` in it unwrapped. Raises ConfigError about `key`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        hint = "it must hold tensors alone, in safetensors or as torch.save(model.state_dict(), ...)"
        raise ConfigError(f"cannot read {str(path)!r}: {hint}", key) from error
    for name in ("state_dict", "model"):
        if isinstance(found.get(name), dict):
            found = found[name]
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def fill(network: torch.nn.Module, weights: dict[str, torch.Tensor], source: Path, key: str = "model") -> None:
    """Put every tensor into its place, none left over and none missing. Raises ConfigError about `key`."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = " ".join(str(error).splitlines()[1].split()) if "\n" in str(error) else str(error)
        raise ConfigError(f"{str(source)!r} does not hold this network's weights: {first[:200]}", key) from error
