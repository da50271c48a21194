"""Dynamic sampling over all processes: which groups a step keeps, who asks the fresh prompts, and how groups change hands.

Every process sees the same list of finished groups, in the order of processes, and so all of them choose alike and stop together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from accelerate.utils import gather_object

from vlreward.advantages.sampling import DynamicSampling
from vlreward.types import RewardTable, Rollout, Sample
from vlreward.vlm.talk import Tails


@dataclass(frozen=True)
class Round:
    """Rollouts that were written and judged together."""

    rows: list[int]
    """The sample of each rollout."""
    made: tuple[Any, ...]
    """Of what TRL's `_generate` gives, prompts, answers, tool masks, completions and log-probabilities: an entry a rollout, or None."""
    rollouts: list[Rollout]
    judged: Callable[[], RewardTable]
    """Waits for the scores."""
    tails: Tails = ()
    """What followed each prompt, for rollouts of several turns."""

    @property
    def table(self) -> RewardTable:
        """The scores; waits for judges that are not done. Raises what they raised."""
        return self.judged()


def joined(rounds: Sequence[Round], chosen: Sequence[tuple[int, int]]) -> Round:
    """One round of rollouts of several: `chosen[i]` is the round and its rollout that comes i-th."""

    def column(number: int) -> Any:
        return None if rounds[0].made[number] is None else [rounds[turn].made[number][i] for turn, i in chosen]

    return Round(
        rows=[rounds[turn].rows[i] for turn, i in chosen],
        made=tuple(column(number) for number in range(len(rounds[0].made))),
        rollouts=[rounds[turn].rollouts[i] for turn, i in chosen],
        judged=lambda: RewardTable.joined([part.table for part in rounds], chosen),
        tails=[rounds[turn].tails[i] for turn, i in chosen] if rounds[0].tails else (),
    )


def _itself(table: RewardTable) -> RewardTable:
    return table


def one_after_the_other(rounds: Sequence[Round]) -> Round:
    """Several rounds as one."""
    return joined(rounds, [(turn, i) for turn, part in enumerate(rounds) for i in range(len(part.rows))])


def first(made: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """`Round.made` of the first `count` rollouts of what `_generate` gave."""
    return tuple(None if column is None else column[:count] for column in made[:5])


def share(fresh: Sequence[int], process: int, processes: int) -> tuple[list[int], int]:
    """The prompts that a process asks, as many as any other so that all generate alike; and how many of them count."""
    each = -(-len(fresh) // processes)
    mine = list(fresh[process * each :][:each])
    return mine + [fresh[-1]] * (each - len(mine)), len(mine)


class Selection:
    """What a step has sampled so far: `wanted` groups of `size` rollouts are looked for, over all processes."""

    def __init__(self, sampling: DynamicSampling, wanted: int, size: int):
        self.sampling, self.wanted, self.size = sampling, wanted, size
        self.rounds: list[Round] = []
        self.asked: list[int] = []
        """The sample of each group, of all processes."""
        self.kept: list[tuple[int, int, int]] = []
        """(process, round, group in it) of the groups that teach something."""
        self.dull: list[tuple[int, int, int]] = []

    def add(self, done: Round) -> None:
        """One more round of this process, and with it those of the others."""
        groups = torch.arange(len(done.rows)) // self.size
        useful = self.sampling.informative(done.table, groups)[:: self.size].tolist() if done.rows else []
        for process, (rows, flags) in enumerate(gather_object([(done.rows[:: self.size], useful)])):
            for group, (row, flag) in enumerate(zip(rows, flags, strict=True)):
                (self.kept if flag else self.dull).append((process, len(self.rounds), group))
                self.asked.append(row)
        self.rounds.append(done)

    @property
    def missing(self) -> int:
        """Groups that a further round should bring; 0 after the last one."""
        return 0 if len(self.rounds) == self.sampling.rounds else max(0, self.wanted - len(self.kept))

    def part(self, process: int, processes: int, samples: Sequence[Sample]) -> Round:
        """The rollouts that a process learns from: its share of the groups that teach something, filled up with others.

        Groups that another process wrote come from there, without their samples, which every process has.
        """
        chosen = (self.kept + self.dull)[: self.wanted]
        places: list[list[tuple[int, int]]] = [[] for _ in range(processes)]
        found = []
        for owner, turn, group in chosen:
            found += [(owner, len(places[owner]) + i) for i in range(self.size)]
            places[owner] += [(turn, group * self.size + i) for i in range(self.size)]
        mine = joined(self.rounds, places[process])
        bare = [replace(rollout, sample=replace(rollout.sample, visuals=(), target={})) for rollout in mine.rollouts]
        everything = gather_object([replace(mine, rollouts=bare, judged=partial(_itself, mine.table))])
        count = len(found) // processes
        own = joined(everything, found[process * count :][:count])
        return replace(own, rollouts=[replace(one, sample=samples[row]) for one, row in zip(own.rollouts, own.rows, strict=True)])
