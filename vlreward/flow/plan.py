"""What a rollout does at each step, and where its noise comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from vlreward.flow.kernels.base import Kernel

Drift = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""x [B,*], s and s_next [B] -> what a step is pushed by [B,*]."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One way through the noise: `kernel` at the `noisy` steps, the ODE at all others."""

    sigmas: torch.Tensor
    """[steps+1] float32 from 1 to 0"""
    kernel: Kernel
    noisy: tuple[int, ...] = ()
    noise: tuple[float, ...] = ()
    """`noise` of the kernel at each noisy step, in their order, where a method gives steps noise of their own."""
    train: tuple[int, ...] = ()
    """Steps whose transitions are stored for the objective; a part of `noisy`."""
    means: bool = False
    """Store the means that transitions were drawn around, too."""
    guidance: float = 1.0
    policy: str = "train"
    """Whose weights sample."""
    share_noise: bool = False
    """All rollouts of a group start from the same noise."""
    renoised: int = 0
    """For an objective of the forward process: at how many levels each finished rollout is noised anew and trained on."""
    levels: tuple[float, float] = (0.0, 1.0)
    """The lowest and the highest of those."""
    shared_levels: bool = False
    """The rollouts of a group are renoised at the same levels and with the same noise, so that they differ in their ends alone."""

    restart: int | None = None
    """Where the objective denoises again, with a gradient: x before this step is stored."""
    begin: int | None = None
    """Rollouts do not come from noise but from given pictures, noised to before this step."""
    branch: int | None = None
    """The rollouts of a group are one until this step, which is computed once and then goes on with each one's own noise."""
    guide: Callable[[Sequence[str]], Drift] | None = None
    """Prompts -> what pushes the steps `guided` after they were drawn; log-probabilities and means stay those without it."""
    guided: tuple[int, ...] = ()
    """A part of `noisy`."""
    multistep: int | None = None
    """From this step on DPM-Solver++(2M) takes the place of Euler; none of these steps is noisy."""

    def __post_init__(self):
        assert set(self.train) <= set(self.noisy) <= set(range(self.steps)), f"steps out of range: {self.train}, {self.noisy}"
        assert self.kernel.stochastic or not self.train, "a deterministic kernel has no transitions to train on"
        assert self.multistep is None or max(self.noisy, default=-1) < self.multistep, "the multistep solver has no noise"

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    def kernel_at(self, step: int) -> Kernel:
        """The kernel of a noisy step."""
        return replace(self.kernel, noise=self.noise[self.noisy.index(step)]) if self.noise else self.kernel  # type: ignore[call-arg]

    @property
    def trained(self) -> int:
        """Transitions of each rollout that the objective learns from."""
        return len(self.train) + self.renoised + (self.restart is not None)


def seed_of(*key: int | str) -> int:
    """A seed of 63 bits that depends on the key alone."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little") >> 1


def seeded(*key: int | str) -> torch.Generator:
    """A CPU generator that depends on the key alone."""
    return torch.Generator().manual_seed(seed_of(*key))


@dataclass(frozen=True)
class Noise:
    """Standard normal tensors by key: the same key gives the same tensor at any batch size, on any process and device."""

    seed: int

    def __call__(self, shape: Sequence[int], *key: int | str) -> torch.Tensor:
        """[*shape] float32 on the CPU. Rollouts use (epoch, group, member, step), with step -1 for the start."""
        return torch.randn(tuple(shape), generator=seeded(self.seed, *key))

    def uniform(self, *key: int | str) -> torch.Tensor:
        """[1] float32 in [0, 1)"""
        return torch.rand(1, generator=seeded(self.seed, "uniform", *key))

    def batch(self, shape: Sequence[int], keys: Sequence[tuple[int | str, ...]]) -> torch.Tensor:
        """[B,*shape], one key a row."""
        return torch.stack([self(shape, *key) for key in keys])
