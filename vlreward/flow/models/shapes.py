"""Rows of one batch whose source pictures differ in number and shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from vlreward.flow.models.base import Condition

Shape = tuple[int, int]
"""Rows and columns of a picture's tokens."""
Seeing = Callable[[torch.Tensor, torch.Tensor, Condition, Sequence[Shape]], torch.Tensor]
"""A velocity [B,*] of rows whose sources all have these shapes: (x, s, condition, shapes)."""


def by_shapes(seeing: Seeing, x: torch.Tensor, s: torch.Tensor, condition: Condition) -> torch.Tensor:
    """v [B,*], by one forward pass for each kind of row, since places of tokens are told once a pass.

    `condition["source"]` [B,L,C] are the tokens of each row's pictures, one after the other; `condition["shapes"]` [B,N,2] say how they
    lie. Rows with fewer pictures or tokens have zeros behind.
    """
    kinds, kind = condition["shapes"].unique(dim=0, return_inverse=True)
    rows = [(kind == k).nonzero().flatten() for k in range(len(kinds))]
    parts = []
    for chosen, padded in zip(rows, kinds.tolist(), strict=True):
        shapes = [(height, width) for height, width in padded if height]
        part = {name: values[chosen] for name, values in condition.items()}
        part["source"] = part["source"][:, : sum(height * width for height, width in shapes)]
        parts.append(seeing(x[chosen], s[chosen], part, shapes))
    return torch.cat(parts)[torch.cat(rows).argsort()]
