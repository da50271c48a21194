"""A trained critic as a reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from vlreward.config import locate
from vlreward.critics.network import Critic, read_head
from vlreward.critics.reading import judgeable
from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.base import Reward, explain, spread
from vlreward.types import RewardOutput, Rollout, Segment


@register("critic")
@dataclass(kw_only=True)
class CriticReward(Reward):
    """What a critic that `vlreward train-critic` trained says of a rollout. In the bounds of its head (a number without bounds for most).

    A text is judged as the answer to its prompt and pictures, a made picture or a given pair by its prompt. Parts are the head's own
    (aspects, deviation, length); a head that judges steps gives each its segment. Heads that read a group together (`listwise`, `duels`)
    make this a reward of groups.

    Source: reward models on a vision-language trunk: IXC-2.5-Reward (arXiv 2501.12368), BaseReward (arXiv 2509.16127), VideoReward
    (arXiv 2501.13918); the others stand with their heads, `vlreward list heads`.

    Known cheats: length, where longer answers were preferred in its data (look at the length figures in its report; the head
    `length_free` is made for that); whatever no rejected attempt in its data did, so policies drift there (hold another judge out, keep
    a KL term, train it again on the policy's own attempts); words to the critic inside of a text do less to a head than to a judge that
    reads instructions, and none can become one of its special tokens.
    """

    path: Path
    """The folder of a critic: runs/<name>/critic."""

    def __post_init__(self):
        self.path = locate(self.path)
        head = read_head(self.path)
        self.scope, self.bounds, self.needs = head.scope, head.bounds, head.needs  # type: ignore[misc]

    def load(self, device: str) -> None:
        self._critic = _load(str(self.path.resolve()), device)

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        errors: list[str | None] = [None] * len(rollouts)
        rows = []
        for row, rollout in enumerate(rollouts):
            if not judgeable(rollout):
                continue
            try:
                _open(rollout)
                rows.append(row)
            except DataError as error:
                errors[row] = explain(error)
        output = RewardOutput(scores=torch.full((len(rollouts),), float("nan"), dtype=torch.float64))
        if rows:
            with torch.no_grad():
                output = spread(self._judged([rollouts[row] for row in rows]), rows, len(rollouts))
        output.errors = [known or error for known, error in zip(errors, output.errors, strict=True)]
        return output

    def _judged(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        verdicts = self._critic.judge(rollouts)
        parts = {name: values.double().cpu() for name, values in verdicts.parts.items()}
        scores = self._critic.head.reported(verdicts).double().cpu()
        segments = [
            [Segment(start=start, end=end, reward=value) for (start, end), value in zip(spans, torch.sigmoid(steps).tolist(), strict=True)]
            for spans, steps in zip(verdicts.spans, verdicts.steps, strict=True)
        ]
        return RewardOutput(scores=scores, parts=parts, segments=segments)


def _open(rollout: Rollout) -> None:
    """Decode all that the critic will look at. Raises DataError."""
    for visual in (*rollout.sample.visuals, *(() if rollout.made is None else (rollout.made,))):
        _ = visual.tensor


@cache
def _load(path: str, device: str) -> Critic:
    return Critic.load(Path(path), device)
