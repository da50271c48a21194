"""From spans of characters to tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

import torch

from vlreward.advantages.base import Offsets
from vlreward.types import RewardTable, Segment

UNFINISHED = "\ufffd"
"""What decoders write for the first bytes of a character whose last ones are still to come."""
BYTES = 4
"""A character has no more in UTF-8, so more tokens than this make up no single one."""


def offsets_of(tokens: Sequence[int], decode: Callable[[list[int]], str]) -> list[tuple[int, int]]:
    """Where each token of a text begins and ends in it, in characters, for any tokenizer that can decode.

    `decode` gives the text of tokens, without special ones; these take up no character. The tokens that make up one character between
    them all have its place. Decoding proceeds by windows of a few tokens, so that a long text costs no more than its length.
    """
    offsets: list[tuple[int, int]] = []
    context, start, place = 0, 0, 0
    for end in range(1, len(tokens) + 1):
        before, after = decode(list(tokens[context:start])), decode(list(tokens[context:end]))
        if after.endswith(UNFINISHED) and end < len(tokens) and end - start < BYTES:
            continue
        length = max(len(after) - len(before), 0)
        offsets += [(place, place + length)] * (end - start)
        place += length
        if length:
            context, start = start, end
        else:
            start = end
    return offsets


def ordered(table: RewardTable, name: str) -> list[list[Segment]]:
    """Per rollout the segments of one term in the order of the text; none where it does not apply or any term's judge broke."""
    left_out = (table.broken | table.scores[:, table.names.index(name)].isnan()).tolist()
    return [
        [] if gone else sorted((part for part in parts if isfinite(part.reward)), key=lambda part: (part.start, part.end))
        for gone, parts in zip(left_out, table.outputs[name].segments, strict=True)
    ]


def real_tokens(offsets: Sequence[Offsets]) -> torch.Tensor:
    """[B,T] float64: 1 where a rollout has a token, 0 beyond its end."""
    length = torch.tensor([len(row) for row in offsets])
    return (torch.arange(max(length.tolist(), default=0)) < length[:, None]).to(torch.float64)


def at_tokens(
    segments: Sequence[Sequence[Segment]], values: Sequence[torch.Tensor], offsets: Sequence[Offsets], following: bool = False
) -> torch.Tensor:
    """[B,T] float64: each token's value of the segment that it shares most characters with, 0 in none.

    `values` holds [S] a rollout, for its segments in the order of the text. With `following` a token gets the sum of its segment's
    value and all later ones', and one between segments that of the later ones.
    """
    at_BT = real_tokens(offsets) * 0
    for row, (parts, value) in enumerate(zip(segments, values, strict=True)):
        if not parts or not offsets[row]:
            continue
        begin, end = torch.tensor(offsets[row]).T[:, :, None]
        first, last = torch.tensor([[part.start, part.end] for part in parts]).T
        shared = (torch.minimum(end, last) - torch.maximum(begin, first)).clamp(min=0)
        mine, inside = shared.argmax(1), shared.amax(1) > 0
        if following:
            left = torch.cat([value.flip(0).cumsum(0).flip(0), torch.zeros(1, dtype=torch.float64)])
            picked = left[torch.where(inside, mine, (last <= begin).sum(1))]
        else:
            picked = torch.where(inside, value[mine], 0.0)
        at_BT[row, : len(picked)] = picked
    return at_BT
