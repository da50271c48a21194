"""Each reward is credited to the tokens that earned it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vlreward.advantages.base import Offsets, column
from vlreward.advantages.mrn import PerReward
from vlreward.advantages.segments import at_tokens, ordered, real_tokens
from vlreward.errors import ConfigError
from vlreward.registry import register
from vlreward.types import RewardTable


@register("token_selective")
@dataclass(kw_only=True)
class TokenSelective(PerReward):
    """As `mrn`, but a term named in `terms` counts for the tokens in its own segments and not for those in another one's; clipped.

    A token in the segments of some of these terms gets their parts of the sum; a token in none of them, such as one of the thinking that
    led to all, gets every part, and terms not named count everywhere. A rollout in which a term marks nothing, since the tag is missing,
    has that part on all its tokens, so that leaving the tag out does not go unpunished.

    Source: the token-selective credit of Zoom-Zero, arXiv 2512.14273: temporal rewards go to the tokens that localise, accuracy to those
    that answer. What tokens outside of both get is our reading.

    Use it where one text answers several questions: `{kind: tagged, of: temporal_iou, tag: time}`. Trap: the terms' segments, not their
    rewards, are taken, so a term whose segments span the whole text is credited everywhere.
    """

    terms: tuple[str, ...]

    def __post_init__(self):
        if not self.terms:
            raise ConfigError("is empty, expected names of terms that mark segments; without any it is 'mrn'", "terms")

    @property
    def per_token(self) -> bool:
        return True

    def tokens(self, table: RewardTable, group_B: torch.Tensor, offsets: Sequence[Offsets]) -> torch.Tensor:
        real = real_tokens(offsets)
        within: dict[str, torch.Tensor] = {}
        for name in self.terms:
            column(table, name, "terms")
            segments = ordered(table, name)
            within[name] = at_tokens(segments, [torch.ones(len(spans), dtype=torch.float64) for spans in segments], offsets)
        claimed = torch.stack(list(within.values())).amax(0) > 0
        advantage_BT = torch.zeros_like(real)
        for name, part_B in zip(table.names, self.parts(table, group_B), strict=True):
            mine = within.get(name, real)
            everywhere = ~claimed | ~mine.any(1, keepdim=True)
            advantage_BT += part_B[:, None] * torch.where(everywhere, real, mine)
        return advantage_BT.clamp(-self.clip, self.clip)
