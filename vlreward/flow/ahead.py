"""Judging while sampling: each finished micro-batch is judged while the next is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vlreward.rewards.composite import Composite
from vlreward.rewards.judges import Judges
from vlreward.types import RewardTable, Rollout


class Ahead:
    """The rewards' judgements of one epoch's rollouts, begun as micro-batches come in."""

    def __init__(self, rewards: Composite, judges: Judges, device: str):
        self.rewards, self.judges, self.device = rewards, judges, device
        self._begun: list[tuple[int, Callable[[], RewardTable]]] = []

    def begin(self, rollouts: Sequence[Rollout]) -> None:
        """Start to judge some rollouts; a reward that compares whole groups waits for all of them."""
        if all(reward.scope == "rollout" for reward in self.rewards.rewards):
            self._begun.append((len(rollouts), self.judges.begin(self.rewards, rollouts, self.device)))

    def table(self, rollouts: Sequence[Rollout], sampled: Sequence[Rollout]) -> RewardTable:
        """The scores of some rollouts: what was begun where they are the `sampled` ones, else they are judged now."""
        if rollouts is not sampled or not self._begun:
            return self.judges.begin(self.rewards, rollouts, self.device)()
        tables = [table() for _, table in self._begun]
        rows = [(t, row) for t, (count, _) in enumerate(self._begun) for row in range(count)]
        assert len(rows) == len(rollouts), f"{len(rows)} rollouts were judged ahead, but there are {len(rollouts)}"
        return RewardTable.joined(tables, rows)
