"""peft's LoRA layer in fewer passes over its output: base + scale B A x by one addmm, where peft multiplies, scales and adds.

Its backward pass can keep the gradient of each row of the batch apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear
from torch import nn


@dataclass
class Rows:
    """The gradients of one layer's A and B for each of B rows, summed over backward passes, in float32."""

    first: torch.Tensor
    """[B,rank,in]"""
    second: torch.Tensor
    """[B,out,rank]"""
    square: torch.Tensor
    """[B] the squared length of what the backward passes since the last reading brought"""

    @classmethod
    def of(cls, layer: OneSum, name: str, rows: int) -> Rows:
        """Zeros for an adapter of a layer."""
        first, second = layer.factors(name)
        return cls(*(torch.zeros(rows, *shape, device=first.device) for shape in (first.shape, second.shape, ())))

    def add(self, first: torch.Tensor, second: torch.Tensor) -> None:
        for kept, brought in ((self.first, first.float()), (self.second, second.float())):
            kept += brought
            self.square += brought.square().sum((1, 2))


class OneSum(Linear):
    """Only for adapters without dropout, as ours are; anything but one active adapter is left to peft."""

    rows: Rows | None = None
    """While set, passes with a gradient add to it and bring none to A and B themselves. A pass's inputs are [rows * n,*]."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        names = self.active_adapters
        if self.disable_adapters or self.merged or len(names) != 1 or names[0] not in self.lora_A.keys():  # noqa: SIM118
            return super().forward(x, *args, **kwargs)
        base = self.base_layer(x, *args, **kwargs)
        first, second = self.factors(names[0])
        if self.rows is not None and torch.is_grad_enabled():
            return ByRow.apply(base, x, first, second, self.scaling[names[0]], self.rows)  # type: ignore[no-any-return]
        return summed(base, F.linear(x, first), second, self.scaling[names[0]])

    def factors(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """A [rank,in] and B [out,rank] of an adapter."""
        first, second = (layers[name].get_parameter("weight") for layers in (self.lora_A, self.lora_B))
        return first, second


def summed(base: torch.Tensor, down: torch.Tensor, second: torch.Tensor, scale: float) -> torch.Tensor:
    """base [*,out] + scale * down [*,rank] B^T"""
    return torch.addmm(base.flatten(0, -2), down.flatten(0, -2), second.t(), alpha=scale).view_as(base)


class ByRow(torch.autograd.Function):
    """What the layer computes, to the bit; its backward pass gives the gradients of A and B to `rows`, one matrix a row of the batch."""

    @staticmethod
    def forward(ctx: Any, base: torch.Tensor, x: torch.Tensor, first: torch.Tensor, second: torch.Tensor, scale: float, rows: Rows):
        down = F.linear(x, first)
        ctx.save_for_backward(x, down, first, second)
        ctx.scale, ctx.rows = scale, rows
        return summed(base, down, second, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        x, down, first, second = ctx.saved_tensors
        apart = [tensor.reshape(len(ctx.rows.square), -1, tensor.shape[-1]) for tensor in (gradient, x.to(gradient.dtype), down)]
        inner = ctx.scale * (gradient @ second.to(gradient.dtype))
        ctx.rows.add(inner.reshape(*apart[0].shape[:2], -1).mT @ apart[1], ctx.scale * (apart[0].mT @ apart[2].to(gradient.dtype)))
        return gradient, inner @ first.to(gradient.dtype) if ctx.needs_input_grad[1] else None, None, None, None, None


def fuse(net: nn.Module) -> None:
    """Make the LoRA layers of a network compute so; adapters may come and go afterwards."""
    for module in net.modules():
        if type(module) is Linear:
            module.__class__ = OneSum
