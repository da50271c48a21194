"""The processes of one launch: what each has is handed to the others, rows are laid together, gradients averaged."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import torch

from vlreward.errors import ConfigError
from vlreward.run.processes import rank, world

T = TypeVar("T")


class Launch:
    """The processes that torchrun or accelerate started, or the only one."""

    def __init__(self, device: str):
        """`device`: 'cpu' or 'cuda'; raises ConfigError for an accelerate configuration that cannot be used."""
        self.count, self.rank, self.device = world(), rank(), device
        if self.count > 1:
            from accelerate import Accelerator

            try:
                self._accelerator = Accelerator(cpu=device == "cpu")
            except ImportError as error:
                raise ConfigError(f"asks for what is not installed: {error}", "distributed_type") from error
            self.device = str(self._accelerator.device)
            self._objects: Any = torch.distributed.new_group(backend="gloo")

    @property
    def kind(self) -> str:
        """What accelerate calls it: NO, MULTI_GPU, FSDP, DEEPSPEED ..."""
        return "NO" if self.count == 1 else self._accelerator.distributed_type.value

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's items of those that all have; items are dealt in turn."""
        return list(items[self.rank :: self.count])

    def parts(self, count: int) -> list[range]:
        """So many items cut into one run for each process, in order and nearly equal."""
        ends = [count * number // self.count for number in range(self.count + 1)]
        return [range(first, end) for first, end in pairwise(ends)]

    def gather(self, thing: T) -> list[T]:
        """What each process has, in all of them."""
        if self.count == 1:
            return [thing]
        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, thing, group=self._objects)
        return found

    def hand_over(self, thing: T) -> list[T]:
        """What each process has, in the first one; nothing in the others."""
        if self.count == 1:
            return [thing]
        found: list[Any] | None = None if self.rank else [None] * self.count
        torch.distributed.gather_object(thing, found, dst=0, group=self._objects)
        return found or []

    def together(self, own: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """[R,*]: the rows of all processes in their order, of which each has as many as `counts` says.

        A gradient reaches a process's own rows alone, times the number of processes: where all make the same loss of all rows, `average`
        then gives the gradient that one process alone would have.
        """
        if self.count == 1:
            return own
        filled = torch.cat([own.detach(), own.new_zeros(max(counts) - len(own), *own.shape[1:])])
        everyone = [torch.empty_like(filled) for _ in counts]
        torch.distributed.all_gather(everyone, filled)
        rows = torch.cat([part[:count] for part, count in zip(everyone, counts, strict=True)])
        if not own.requires_grad:
            return rows
        own.register_hook(lambda gradient: gradient * self.count)
        end = list(accumulate(counts))[self.rank]
        return torch.cat([rows[: end - len(own)], own, rows[end:]])

    def agree(self, flags: Sequence[bool]) -> list[bool]:
        """Which of several things hold in any of the processes."""
        if self.count == 1:
            return list(flags)
        found = torch.tensor(list(flags), dtype=torch.uint8)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX, group=self._objects)
        return [bool(flag) for flag in found]

    def average(self, weights: Sequence[torch.nn.Parameter]) -> None:
        """Put the mean of all processes' gradients in place of each one's own."""
        if self.count == 1:
            return
        known = [any(flags) for flags in zip(*self.gather([weight.grad is not None for weight in weights]), strict=True)]
        for weight, anywhere in zip(weights, known, strict=True):
            if anywhere:
                own = torch.zeros_like(weight) if weight.grad is None else weight.grad
                weight.grad = self._accelerator.reduce(own, "mean")  # type: ignore[assignment]
