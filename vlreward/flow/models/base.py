"""The generator: what a text-to-image or text-to-video flow model must tell us, and guidance, written once for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from vlreward.config import Count
from vlreward.data.media import Picture
from vlreward.errors import DataError
from vlreward.types import Sample

Condition = Mapping[str, torch.Tensor]
"""What the network is told of B samples: named tensors [B,*]."""


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

    edits: ClassVar[bool] = False
    """Whether it starts from source pictures: visuals of each sample."""
    several: ClassVar[bool] = False
    """Whether these are all of them, in their order, and not the first alone."""

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Conditions of B prompts, on the CPU."""
        raise NotImplementedError(f"{type(self).__name__} must define encode")

    def encode_sources(self, prompt: str, sources: Sequence[Picture]) -> Condition:
        """Conditions [1,*] of one prompt and its source pictures, on the CPU; where `edits`, in place of `encode`."""
        raise NotImplementedError(f"{type(self).__name__} must define encode_sources")

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

    def runs_twice(self, guidance: float) -> bool:
        """Whether this much guidance asks for the velocity without a prompt, too."""
        return guidance != 1.0 and not self.guidance_is_input

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
    if not model.runs_twice(guidance):
        return model.velocity(x, s, condition)
    assert null is not None, "guidance other than 1 needs the empty prompt's condition"
    return model.combine(model.velocity(x, s, condition), unconditional(model, x, s, null) if known is None else known, guidance)


@torch.no_grad()
def unconditional(model: Generator, x: torch.Tensor, s: torch.Tensor, null: Condition) -> torch.Tensor:
    """v [B,*] of the empty prompt."""
    v = model.velocity(x, s, {name: rows.expand(len(x), *rows.shape[1:]) for name, rows in null.items()})
    return v.contiguous()  # as it will lie where it was kept, since sums depend on how their terms lie


Asked = Sample | str
"""What is to be made: a sample, or a prompt alone where no source picture is needed."""


class Embeddings:
    """The condition of what each sample asks for, computed once and kept on the CPU: once for each distinct prompt or, where the model
    edits, for each distinct prompt and source pictures. One that is met later needs the encoders still.

    Raises DataError where the model edits and a sample has no picture.
    """

    def __init__(self, model: Generator, asked: Sequence[Asked], batch: int = 64):
        self._model, self._batch = model, batch
        self._row: dict[Any, int] = {}
        self._table: Condition = {}
        self.add(asked if model.edits else ["", *asked])

    def add(self, asked: Sequence[Asked]) -> None:
        """Encode what is new of it."""
        new = {key: one for one in asked if (key := self._key(one)) not in self._row}
        if not new:
            return
        self._row |= {key: len(self._row) + k for k, key in enumerate(new)}
        parts: list[Condition] = [self._table] if self._table else []
        with torch.no_grad():
            if self._model.edits:
                parts += [self._model.encode_sources(prompt_of(one), self._sources(one)) for one in new.values()]
            else:
                prompts = list(new)
                for i in range(0, len(prompts), self._batch):
                    part = prompts[i : i + self._batch]
                    filled = part + [""] * (self._batch - len(part))
                    parts.append({name: rows[: len(part)] for name, rows in self._model.encode(filled).items()})
        self._table = {name: stacked([part[name] for part in parts]) for name in parts[0]}

    def __call__(self, asked: Sequence[Asked], device: Any = "cpu") -> Condition:
        """Conditions of B samples."""
        self.add(asked)
        rows = torch.tensor([self._row[self._key(one)] for one in asked])
        return {name: table[rows].to(device) for name, table in self._table.items()}

    def null(self, asked: Sequence[Asked], device: Any = "cpu") -> Condition:
        """The same without their prompts."""
        return self([unprompted(one) for one in asked], device)

    def _key(self, one: Asked) -> Any:
        return (prompt_of(one), *map(id, self._sources(one))) if self._model.edits else prompt_of(one)

    def _sources(self, one: Asked) -> list[Picture]:
        return sources(one) if self._model.several else sources(one, 1)


def prompt_of(one: Asked) -> str:
    return one if isinstance(one, str) else one.prompt


def unprompted(one: Asked) -> Asked:
    """The same with an empty prompt."""
    return replace(one, prompt="") if isinstance(one, Sample) else ""


def sources(sample: Asked, most: int | None = None) -> list[Picture]:
    """The pictures that a sample wants something to be made of, `most` of them at most. Raises DataError where there is none."""
    visuals = sample.visuals[:most] if isinstance(sample, Sample) else ()
    pictures = [visual for visual in visuals if isinstance(visual, Picture)]
    if not pictures or len(pictures) < len(visuals):
        name = sample.id if isinstance(sample, Sample) else sample
        found = "a clip among its pictures" if pictures else "no picture"
        raise DataError(f"{name}: has {found}, but the generator starts from pictures; give each sample an 'image'")
    return pictures


def stacked(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Tables [B,...] below each other; those of prompts [B,L,...] are padded behind with zeros to the longest."""
    if parts[0].ndim == 1:
        return torch.cat(list(parts))
    longest = max(part.shape[1] for part in parts)
    padded = [torch.cat([part, part.new_zeros(len(part), longest - part.shape[1], *part.shape[2:])], dim=1) for part in parts]
    return torch.cat(padded)
