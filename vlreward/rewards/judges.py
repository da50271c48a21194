"""Rewards judge in threads while a training goes on: the same scores, a shorter step, and nobody waits for ever for one that hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Thread
from typing import TypeVar

from vlreward.rewards.base import Reward, failed, walk
from vlreward.rewards.composite import Composite, Term
from vlreward.types import RewardOutput, RewardTable, Rollout

T = TypeVar("T")


class Judges:
    """Terms that wait judge in a thread each, batch after batch in the order they came; all others judge at once.

    So nothing that a term remembers of earlier batches depends on the time, and scores are those of a plain call.
    """

    def __init__(self, seconds: float | None = None, all_apart: bool = False):
        """`seconds`: a term in a thread that judges one batch for longer counts as broken on it, and on every later one for as long as it
        hangs; none waits for ever. `all_apart`: terms that do not wait judge in threads too."""
        self.seconds, self.all_apart = seconds, all_apart
        self.last: list[tuple[Reward, Asked]] = []
        """What each reward was asked last."""

    def begin(self, rewards: Composite, rollouts: Sequence[Rollout], device: str) -> Callable[[], RewardTable]:
        """Start to judge; calling what this gives waits for the table. It raises what a term raised."""
        waiting = [term for term in rewards.terms if self.all_apart or any(reward.waits for reward in walk(term.reward))]
        if not waiting or not rollouts:
            table = rewards(rollouts, device)
            return lambda: table
        rewards.load(device)
        asked = {term.name: self._ask(term, rollouts, device) for term in waiting}
        known = {term.name: term.reward.score(rollouts, device) for term in rewards.terms if term not in waiting}
        return lambda: rewards.table(known | {name: one.answer(self.seconds) for name, one in asked.items()})

    def _ask(self, term: Term, rollouts: Sequence[Rollout], device: str) -> Asked:
        before = next((asked for reward, asked in self.last if reward is term.reward), None)
        asked = Asked(count=len(rollouts), work=lambda: term.reward.score(rollouts, device), before=before)
        asked.start(term.name)
        self.last = [(reward, other) for reward, other in self.last if reward is not term.reward] + [(term.reward, asked)]
        return asked

    def beside(self, rewards: Composite, work: Callable[[], T]) -> T:
        """What `work` gives, which judges with these rewards what is no batch: all begun batches are judged first, and nothing of it is
        remembered."""
        for _, asked in self.last:
            asked.thread.join()
        memory = [dict(kept) for kept in rewards.memory]
        try:
            return work()
        finally:
            rewards.recall(memory)

    def stop(self) -> None:
        """Give up what is being judged, so that the program can end."""
        for reward, asked in self.last:
            for inner in walk(reward) if asked.thread.is_alive() else ():
                inner.stop()


@dataclass
class Asked:
    """One batch that one term was given, after the one that it was given `before`."""

    count: int
    work: Callable[[], RewardOutput]
    before: Asked | None
    thread: Thread = field(default_factory=Thread)
    since: float | None = None
    """When judging began."""
    found: RewardOutput | BaseException | None = None
    late: bool = False
    """Nobody waits for it any more."""

    def start(self, name: str) -> None:
        """Judge in a thread, unless the one before hangs and is what this would wait for."""
        if self.before and self.before.late and self.before.thread.is_alive():
            self.late, self.thread = True, self.before.thread
            return
        self.thread = Thread(target=self._judge, name=name, daemon=True)
        self.thread.start()

    def _judge(self) -> None:
        if self.before:
            self.before.thread.join()
            self.before = None
        if self.late:
            return
        self.since = time.monotonic()
        try:
            self.found = self.work()
        except BaseException as failure:
            self.found = failure

    def wait(self, seconds: float | None) -> bool:
        """Whether it came to an end within `seconds` of its beginning."""
        before = self.before
        if self.late or (before and not before.wait(seconds)):
            self.late = True
            return False
        while seconds is not None and self.thread.is_alive() and not self.late:
            left = (self.since or time.monotonic()) + seconds - time.monotonic()
            self.thread.join(max(0.0, left))
            self.late = left <= 0 and self.thread.is_alive()
        if seconds is None:
            self.thread.join()
        return not self.late

    def answer(self, seconds: float | None) -> RewardOutput:
        """What was found, broken throughout where that took too long. Raises what the term raised."""
        if not self.wait(seconds):
            return failed(self.count, f"did not answer within {seconds:g} s")
        if isinstance(self.found, BaseException):
            raise self.found
        assert self.found is not None, "a thread that ended has found something"
        return self.found
