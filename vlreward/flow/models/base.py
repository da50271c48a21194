"""The generator: what a text-to-image or text-to-video flow model must tell us, and guidance, written once for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from vlreward.config import Count

Condition = Mapping[str, torch.Tensor]
"""What the network is told of B prompts: named tensors [B,*]."""


@dataclass(kw_only=True)
class Generator:
    """Base of all generators: an adapter of a diffusers pipeline. `load` first; then `net` is the network to be trained."""

    family: ClassVar[str] = "generators"
    kind: ClassVar[str]
    model: str
    """A folder in diffusers' format, or a name on the Hub."""
    pixels: Count = 512
    """Side of the pictures."""

    net: ClassVar[nn.Module]
    """The transformer; an instance attribute once loaded."""

    def load(self, device: str) -> None:
        """Bring everything into memory. Raises ConfigError where the model is not there."""
        raise NotImplementedError(f"{type(self).__name__} must define load")

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Conditions of B prompts, on the CPU."""
        raise NotImplementedError(f"{type(self).__name__} must define encode")

    def networks(self) -> list[nn.Module]:
        """All that is in memory and has weights."""
        return [self.net]

    def drop_encoders(self) -> None:
        """Free the text encoders; `encode` is not called again."""

    def shape(self) -> tuple[int, ...]:
        """Of one sample's latents."""
        raise NotImplementedError(f"{type(self).__name__} must define shape")

    def schedule(self, steps: int) -> dict[str, float]:
        """The model's own `shift` or `mu`, and `terminal`, for `flow.math.sigmas` of this many steps."""
        return {}

    def velocity(self, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
        """v = eps - x0 [B,*] float32 at latents x [B,*] and s [B]: one forward pass, without guidance."""
        raise NotImplementedError(f"{type(self).__name__} must define velocity")

    @property
    def guidance_is_input(self) -> bool:
        """Whether the network was distilled to take guidance as an input: the row `guidance` [B] of its condition."""
        return False

    def combine(self, conditional: torch.Tensor, unconditional: torch.Tensor, guidance: float) -> torch.Tensor:
        """Classifier-free guidance of two velocities [B,*]."""
        return unconditional + guidance * (conditional - unconditional)

    def decode(self, x0: torch.Tensor) -> torch.Tensor:
        """Latents [B,*] -> pictures [B,3,H,W] or clips [B,F,3,H,W] in [0, 1]; carries gradient."""
        raise NotImplementedError(f"{type(self).__name__} must define decode")

    def size(self) -> tuple[int, ...]:
        """Of what is made: height and width in pixels, and frames of a clip."""
        return self.pixels, self.pixels

    def latents_of(self, pictures: torch.Tensor) -> torch.Tensor:
        """The inverse of `decode`, up to what the autoencoder loses: pictures or clips in [0, 1] of this size -> latents [B,*] float32."""
        raise NotImplementedError(f"{type(self).__name__} must define latents_of")

    def export(self, folder: Path) -> None:
        """Write the active weights in diffusers' own format."""
        raise NotImplementedError(f"{type(self).__name__} must define export")


def guided(
    model: Generator, x: torch.Tensor, s: torch.Tensor, condition: Condition, null: Condition | None, guidance: float,
    known: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """v [B,*] with guidance: an input of the network where it takes one, else classifier-free.

    Guidance 1 costs one forward pass of B rows, as does one that is an input. Any other costs two, of which the unconditional one keeps
    nothing for a backward pass; none where `known` [B,*] is what `unconditional` gave here.
    """
    if model.guidance_is_input:
        return model.velocity(x, s, {**condition, "guidance": torch.full_like(s, guidance)})
    if guidance == 1.0:
        return model.velocity(x, s, condition)
    assert null is not None, "guidance other than 1 needs the empty prompt's condition"
    return model.combine(model.velocity(x, s, condition), unconditional(model, x, s, null) if known is None else known, guidance)


@torch.no_grad()
def unconditional(model: Generator, x: torch.Tensor, s: torch.Tensor, null: Condition) -> torch.Tensor:
    """v [B,*] of the empty prompt."""
    v = model.velocity(x, s, {name: rows.expand(len(x), *rows.shape[1:]) for name, rows in null.items()})
    return v.contiguous()  # as it will lie where it was kept, since sums depend on how their terms lie


class Embeddings:
    """Each distinct prompt's condition, computed once and kept on the CPU."""

    def __init__(self, model: Generator, prompts: Sequence[str], batch: int = 64):
        distinct = list(dict.fromkeys(["", *prompts]))
        self._row = {prompt: row for row, prompt in enumerate(distinct)}
        parts: list[Condition] = []
        with torch.no_grad():
            for i in range(0, len(distinct), batch):
                part = distinct[i : i + batch]
                filled = part + [""] * (batch - len(part))
                parts.append({name: rows[: len(part)] for name, rows in model.encode(filled).items()})
        self._table = {name: stacked([part[name] for part in parts]) for name in parts[0]}

    def __call__(self, prompts: Sequence[str], device: Any = "cpu") -> Condition:
        """Conditions of B prompts."""
        rows = torch.tensor([self._row[prompt] for prompt in prompts])
        return {name: table[rows].to(device) for name, table in self._table.items()}

    def add(self, others: Embeddings) -> None:
        """Take in what others know."""
        count = len(self._row)
        self._row |= {key: count + row for key, row in others._row.items()}
        self._table = {name: stacked([table, others._table[name]]) for name, table in self._table.items()}


def stacked(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Tables [B,...] below each other; those of prompts [B,L,...] are padded behind with zeros to the longest."""
    if parts[0].ndim == 1:
        return torch.cat(list(parts))
    longest = max(part.shape[1] for part in parts)
    padded = [torch.cat([part, part.new_zeros(len(part), longest - part.shape[1], *part.shape[2:])], dim=1) for part in parts]
    return torch.cat(padded)
