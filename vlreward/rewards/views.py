"""Any picture reward over rendered views of one thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from vlreward.data.media import Clip, Picture
from vlreward.errors import ConfigError, DataError
from vlreward.registry import register
from vlreward.rewards.base import Reward, explain
from vlreward.types import RewardOutput, Rollout


@register("each_view")
@dataclass(kw_only=True)
class EachView(Reward):
    """A picture reward over all views of a thing: their mean, or the worst. In the bounds of `of`; gradient as of `of`.

    Views are the frames of the clip that was made (a turntable), a single picture that was made, or where nothing was made all pictures
    of the sample. Each is judged as if it were the only picture. A view that `of` does not apply to is left out; one that it breaks on
    breaks the row. Parts: `worst` and `spread`, the standard deviation over views.

    Source: VLM3D, where a vision-language model judges rendered views of a 3D asset, with its gradient through the
    renderer: views that carry a gradient keep it, with a differentiable `of`.

    Known cheats: one good face and nothing behind it (`over: min`, or look at `worst`); the same face on all sides (each view is judged
    alone: a judge that sees several pictures at once must be asked for that); those of `of`.
    """

    of: Reward
    over: Literal["mean", "min"] = "mean"
    needs = ("visual",)

    def __post_init__(self):
        if self.of.scope == "group":
            raise ConfigError(f"is {self.of.kind!r}, which compares rollouts of a group, expected a reward of pictures", "of")
        self.bounds, self.differentiable = self.of.bounds, self.of.differentiable  # type: ignore[misc]
        self.needs = tuple(dict.fromkeys(("visual", *self.of.needs)))  # type: ignore[misc]

    def load(self, device: str) -> None:
        self._device = device

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        flat: list[Rollout] = []
        rows: list[list[int]] = []
        errors: list[str | None] = [None] * len(rollouts)
        for row, rollout in enumerate(rollouts):
            try:
                seen = [replace(rollout, made=view) for view in views(rollout)]
            except DataError as error:
                seen, errors[row] = [], explain(error)
            rows.append(list(range(len(flat), len(flat) + len(seen))))
            flat += seen
        judged = self.of.score(flat, self._device)
        nothing = judged.scores.new_full((), float("nan"))
        found = {name: [nothing] * len(rollouts) for name in ("score", "worst", "spread")}
        for row, places in enumerate(rows):
            errors[row] = errors[row] or next((judged.errors[place] for place in places if judged.errors[place]), None)
            scores = judged.scores[places][~judged.scores[places].isnan()]
            if errors[row] is None and len(scores):
                worst = scores.min()
                found["score"][row] = worst if self.over == "min" else scores.mean()
                found["worst"][row], found["spread"][row] = worst.detach(), scores.detach().std(correction=0)
        columns = {name: torch.stack(values) if values else judged.scores[:0] for name, values in found.items()}
        return RewardOutput(scores=columns.pop("score"), parts=columns, errors=errors)


def views(rollout: Rollout) -> list[Picture]:
    """The pictures that show one thing. Raises DataError."""
    shown = [rollout.made] if rollout.made is not None else rollout.sample.visuals
    return [view for visual in shown for view in (visual.pictures if isinstance(visual, Clip) else [visual])]
