"""A network whose weights FSDP2 has divided among the processes: whether it is one, and how to put it together for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def in_pieces(model: Any) -> bool:
    """Whether FSDP2 has divided a model."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def divided_now(model: Any) -> bool:
    """Whether a pass gathers weights that lie in pieces at this moment."""
    return any(isinstance(weight, DTensor) for weight in model.parameters())


@contextmanager
def whole(model: Any) -> Iterator[None]:
    """All weights of an FSDP2 model in every process, gathered once for many forward passes; any other model is left as it is.

    Without it each token that is written gathers all weights again, and processes whose answers end earlier leave the others waiting.
    """
    parts: list[Any] = [module for module in model.modules() if isinstance(module, FSDPModule)]
    groups = [group for part in parts for group in part._get_fsdp_state()._fsdp_param_groups]
    usual = [group.post_forward_mesh_info for group in groups]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for group, info in zip(groups, usual, strict=True):
            group.post_forward_mesh_info = info
        for part in parts:
            part.reshard()


def apart(model: Any) -> None:
    """Leave every process with its own pieces alone."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def full(weight: torch.Tensor) -> torch.Tensor:
    """All of a weight; every process must ask for it, where it lies in pieces."""
    return weight.full_tensor() if isinstance(weight, DTensor) else weight


def like(value: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A whole tensor divided as `weight` is."""
    if not isinstance(weight, DTensor):
        return value
    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)


@contextmanager
def saved_whole(model: Any) -> Iterator[None]:
    """Inside, `state_dict` of the model and of its parts gives whole tensors on the CPU, so that libraries can save it. Every process
    must enter."""
    chosen = [module for module in model.modules() if hasattr(module, "save_pretrained")] if in_pieces(model) else []
    states = [{name: full(weight).cpu() for name, weight in module.state_dict().items()} for module in chosen]
    for module, state in zip(chosen, states, strict=True):
        module.state_dict = lambda *_, _state=state, **__: _state
    try:
        yield
    finally:
        for module in chosen:
            del module.state_dict
