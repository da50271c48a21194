"""Judging while sampling: each finished micro-batch is judged while the next is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vlreward.flow.processes import Processes
from vlreward.rewards.composite import Composite
from vlreward.rewards.judges import Judges
from vlreward.types import RewardTable, Rollout


class Ahead:
    """The rewards' judgements of one epoch's rollouts, begun as micro-batches come in."""

    def __init__(self, rewards: Composite, judges: Judges, processes: Processes):
        self.rewards, self.judges, self.processes = rewards, judges, processes
        self.whole_groups = any(reward.scope == "group" for reward in rewards.rewards)
        self._begun: list[tuple[int, Callable[[], RewardTable]]] = []

    def begin(self, rollouts: Sequence[Rollout]) -> None:
        """Start to judge some rollouts; a reward that compares whole groups waits for all of them."""
        if not self.whole_groups:
            self._begun.append((len(rollouts), self._judge(rollouts)))

    def table(self, rollouts: Sequence[Rollout], sampled: Sequence[Rollout]) -> RewardTable:
        """The scores of some rollouts: what was begun where they are the `sampled` ones, else they are judged now."""
        if self.whole_groups:
            everyone = self.processes.gather(list(rollouts))
            before = sum(len(part) for part in everyone[: self.processes.rank])
            table = self._judge([rollout for part in everyone for rollout in part])()
            return table.reordered(range(before, before + len(rollouts)))
        if rollouts is not sampled or not self._begun:
            return self._judge(rollouts)()
        tables = [table() for _, table in self._begun]
        rows = [(t, row) for t, (count, _) in enumerate(self._begun) for row in range(count)]
        assert len(rows) == len(rollouts), f"{len(rows)} rollouts were judged ahead, but there are {len(rollouts)}"
        return RewardTable.joined(tables, rows)

    def _judge(self, rollouts: Sequence[Rollout]) -> Callable[[], RewardTable]:
        return self.judges.begin(self.rewards, rollouts, self.processes.device)
