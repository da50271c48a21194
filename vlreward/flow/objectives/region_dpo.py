"""Region-grouped DPO: preferences between regions of pictures, across them and within one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from vlreward.advantages.base import Advantage
from vlreward.config import NotNegative, Positive
from vlreward.flow.collect import Batch, Collected
from vlreward.flow.objectives.forward import Compared
from vlreward.flow.regions import Region, coverage, regions_of
from vlreward.flow.rollout import Velocity
from vlreward.registry import register
from vlreward.types import RewardTable

Pair = tuple[tuple[int, Region], tuple[int, Region]]
"""A picture and its region that is better, and one that is worse."""


@register("region_dpo")
@dataclass(kw_only=True)
class RegionDpo(Compared):
    """-log sigmoid(-(strength / 2) (d_better - d_worse)), d = l - l_ref the mean over a region's latents alone; means over pairs.

    Regions and their scores are those of each picture's `target.regions`. Across the pictures of a group, of two regions with one
    label (a glyph, an object; none is a label too) the one that scores higher is preferred; within a picture, any that scores higher
    over any that scores lower, which counts `within` as much. A wrong glyph so costs the regions that are right nothing, where DPO on
    pictures blames all that a picture shows. A latent at a box's edge counts by the share of it that is covered.
    Regions without a score and groups without a pair teach nothing. `rewards` is not asked for credit.
    Known failure: what lies in no region is held by the reference alone; and as DPO's, both errors of a pair can rise.
    Source: GlyphPrinter, arXiv 2603.15616, of which its abstract and summaries were at hand, not its constants: that preferences are
    taken within and across samples over annotated regions is theirs, weighing a region by its area and `strength` are ours.
    """

    whole_groups: ClassVar[bool] = True
    offline: ClassVar[bool] = True
    own_preferences: ClassVar[bool] = True
    strength: Positive = 100.0
    within: NotNegative = 1.0

    def credit(self, collected: Collected, table: RewardTable, advantage: Advantage) -> None:
        super().credit(collected, table, advantage)
        found = [regions_of(rollout.sample.target, rollout.sample.id) for rollout in collected.rollouts]
        groups = collected.groups()
        collected.keep([rows for rows in groups if any(self.pairs([found[row] for row in rows]))])

    def matching(self, v: torch.Tensor, velocity: Velocity, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        now, before = ((u - batch.straight).square() for u in (v, velocity(batch.x, batch.s, self.reference)))
        gained = now - before
        across, inside = [], []
        for group in batch.group.unique():
            rows = (batch.group == group).nonzero().flatten().tolist()
            pairs = self.pairs([regions_of(batch.targets[row], "") for row in rows])
            for kind, found in zip((across, inside), pairs, strict=True):
                kind += [over(gained[rows[i]], better) - over(gained[rows[j]], worse) for (i, better), (j, worse) in found]
        parts = [F.softplus(self.strength / 2 * torch.stack(kind)).mean() if kind else 0 * gained.sum() for kind in (across, inside)]
        margins = torch.stack(across + inside) if across or inside else gained.new_zeros(1)
        return parts[0] + self.within * parts[1], {"preferred": (margins < 0).float().mean().item()}

    def pairs(self, found: Sequence[Sequence[Region]]) -> tuple[list[Pair], list[Pair]]:
        """Across the pictures of one group, and within them."""
        known = [(i, region) for i, regions in enumerate(found) for region in regions if region.score is not None]
        better = [(a, b) for a in known for b in known if a[1].score > b[1].score]  # type: ignore[operator]
        across = [(a, b) for a, b in better if a[0] != b[0] and a[1].label == b[1].label]
        return across, [(a, b) for a, b in better if a[0] == b[0]] if self.within else []


def over(value: torch.Tensor, region: Region) -> torch.Tensor:
    """The mean of latents [..,H,W] over a region."""
    share = coverage([region.box], *value.shape[-2:]).to(value.device)
    return (value * share).sum() / (share.sum() * value[..., 0, 0].numel())
