"""Rewards that mostly wait, for a sandbox or another machine, do so while a training goes on: the same scores, a shorter step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Thread
from typing import TypeVar

from vlreward.rewards.base import Reward, walk
from vlreward.rewards.composite import Composite, Term
from vlreward.types import RewardOutput, RewardTable, Rollout

T = TypeVar("T")


class Judges:
    """Terms that wait judge in a thread each, batch after batch in the order they came; all others judge at once.

    So nothing that a term remembers of earlier batches depends on the time, and scores are those of a plain call.
    """

    def __init__(self):
        self.last: list[tuple[Reward, Thread]] = []
        """The newest thread of each reward."""

    def begin(self, rewards: Composite, rollouts: Sequence[Rollout], device: str) -> Callable[[], RewardTable]:
        """Start to judge; calling what this gives waits for the table. It raises what a term raised."""
        waiting = [term for term in rewards.terms if any(reward.waits for reward in walk(term.reward))]
        if not waiting or not rollouts:
            table = rewards(rollouts, device)
            return lambda: table
        rewards.load(device)
        found: dict[str, RewardOutput | BaseException] = {}
        threads = [self._thread(term, rollouts, device, found) for term in waiting]
        for term in rewards.terms:
            if term not in waiting:
                found[term.name] = term.reward.score(rollouts, device)

        def table_of_all() -> RewardTable:
            for thread in threads:
                thread.join()
            outputs: dict[str, RewardOutput] = {}
            for name in rewards.names:
                output = found[name]
                if isinstance(output, BaseException):
                    raise output
                outputs[name] = output
            return rewards.table(outputs)

        return table_of_all

    def _thread(self, term: Term, rollouts: Sequence[Rollout], device: str, found: dict[str, RewardOutput | BaseException]) -> Thread:
        before = [thread for reward, thread in self.last if reward is term.reward]

        def ask() -> None:
            for thread in before:
                thread.join()
            try:
                found[term.name] = term.reward.score(rollouts, device)
            except BaseException as failure:
                found[term.name] = failure

        thread = Thread(target=ask, name=term.name, daemon=True)
        thread.start()
        self.last = [(reward, other) for reward, other in self.last if reward is not term.reward] + [(term.reward, thread)]
        return thread

    def beside(self, rewards: Composite, work: Callable[[], T]) -> T:
        """What `work` gives, which judges with these rewards what is no batch: all begun batches are judged first, and nothing of it is
        remembered."""
        for _, thread in self.last:
            thread.join()
        memory = [dict(kept) for kept in rewards.memory]
        try:
            return work()
        finally:
            rewards.recall(memory)

    def stop(self) -> None:
        """Give up what is being judged, so that the program can end."""
        for reward, thread in self.last:
            for inner in walk(reward) if thread.is_alive() else ():
                inner.stop()
