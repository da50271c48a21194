"""peft's LoRA layer in fewer passes over its output: base + scale B A x by one addmm, where peft multiplies, scales and adds."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear
from torch import nn


class OneSum(Linear):
    """Only for adapters without dropout, as ours are; anything but one active adapter is left to peft."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        names = self.active_adapters
        if self.disable_adapters or self.merged or len(names) != 1 or names[0] not in self.lora_A.keys():  # noqa: SIM118
            return super().forward(x, *args, **kwargs)
        base = self.base_layer(x, *args, **kwargs)
        first, second = (layers[names[0]].get_parameter("weight") for layers in (self.lora_A, self.lora_B))
        down, up = F.linear(x, first), second.t()
        return torch.addmm(base.flatten(0, -2), down.flatten(0, -2), up, alpha=self.scaling[names[0]]).view_as(base)


def fuse(net: nn.Module) -> None:
    """Make the LoRA layers of a network compute so; adapters may come and go afterwards."""
    for module in net.modules():
        if type(module) is Linear:
            module.__class__ = OneSum
