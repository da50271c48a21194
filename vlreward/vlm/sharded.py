"""A policy whose weights lie in pieces over the processes: FSDP2, or DeepSpeed's ZeRO-3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch.distributed.fsdp import FSDPModule

from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.types import Sample
from vlreward.vlm.prompts import has_clip


def in_pieces(model: Any) -> bool:
    """Whether FSDP2 has divided a model."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


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


def check(accelerator: Any, samples: Sequence[Sample], turns: bool = False) -> None:
    """Refuse what would end in processes that wait for each other for ever, or in a folder without a policy. Raises ConfigError."""
    plugin, deepspeed = accelerator.state.fsdp_plugin if _fsdp(accelerator) else None, accelerator.state.deepspeed_plugin
    wanted = {"fsdp_version": "2", "fsdp_state_dict_type": "FULL_STATE_DICT", "fsdp_cpu_ram_efficient_loading": "false"}
    for name, value in wanted.items() if plugin is not None else ():
        found = str(getattr(plugin, name.removeprefix("fsdp_") if name != "fsdp_version" else name))
        if value.lower() not in found.lower():
            raise ConfigError(f"is {found}, expected {value} (as in configs/accelerate/fsdp2.yaml)", f"fsdp_config.{name}")
    if plugin is None and (deepspeed is None or deepspeed.zero_stage != 3):
        return
    if turns:
        raise ConfigError("goes on for longer in one process than in another, which FSDP and ZeRO-3 cannot do; use DDP or ZeRO-2", "turns")
    if len({_sees(sample) for sample in samples}) > 1:
        raise ConfigError(
            "mixes prompts with and without pictures or clips, which leaves processes waiting for each other's vision tower under FSDP and "
            "ZeRO-3; train on one kind, or use DDP or ZeRO-2",
            "data",
        )


def _fsdp(accelerator: Any) -> bool:
    return str(accelerator.distributed_type).endswith("FSDP")


def _sees(sample: Sample) -> tuple[bool, bool]:
    return any(isinstance(visual, Picture) for visual in sample.visuals), has_clip(sample)
