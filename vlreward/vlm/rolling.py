"""From what TRL generated for the trainer's prompts to rollouts that are being judged."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from vlreward.types import Rollout
from vlreward.vlm.rewriting import rewritten
from vlreward.vlm.rounds import Round, first

if TYPE_CHECKING:
    from vlreward.vlm.trainer import VLGRPOTrainer

T = TypeVar("T")


def judged(trainer: VLGRPOTrainer, made: tuple, group: int, count: int) -> Round:
    """The first `count` rollouts of what TRL's `_generate` gave for `trainer.rows`; `group` is the number of their first group.

    Near misses are corrected first. Judging has begun; asking the round for its table waits for it.
    """
    size, rewards, device = trainer.config.group.size, trainer.leg.rewards, str(trainer.accelerator.device)
    own = [len(tokens) for tokens in made[1]]
    if trainer.config.correction:
        asked = [(trainer.samples[row], group + i // size) for i, row in enumerate(trainer.rows)]
        texts, given = trainer.processing_class, made
        made, own = trainer.judges.beside(rewards, lambda: rewritten(trainer.config, rewards, given, asked, texts, device))
        trainer.count("corrected", sum(kept < len(tokens) for kept, tokens in zip(own[:count], made[1], strict=False)))
    likelihoods = trainer.scoring.likelihoods(made[1]) if trainer.config.reads_likelihood else [None] * len(made[1])
    trainer.count("tokens/generate", sum(map(sum, made[2])) if made[2] else sum(map(len, made[1])))
    made, rows = (*first(made, count), own[:count]), trainer.rows[:count]
    _, ids, _, completions, *_ = made
    talks = zip(trainer.talks[:count], likelihoods, strict=False)
    rollouts = [talk.rollout(group + i // size, likely) for i, (talk, likely) in enumerate(talks)] or [
        Rollout(sample=trainer.samples[row], text=said[0]["content"], group=group + i // size, num_tokens=len(tokens), likelihood=likely)
        for i, (row, said, tokens, likely) in enumerate(zip(rows, completions, ids, likelihoods[:count], strict=True))
    ]
    table = _waited(trainer, lambda: trainer.judges.begin(rewards, rollouts, device))
    return Round(rows, made, rollouts, lambda: _waited(trainer, table), trainer.tails[:count])


def _waited(trainer: VLGRPOTrainer, work: Callable[[], T]) -> T:
    """What `work` gives; the time counts as the rewards'."""
    start = time.monotonic()
    try:
        return work()
    finally:
        trainer.count("time/reward", time.monotonic() - start)


def fresh(trainer: VLGRPOTrainer, count: int, used: set[int], turn: int) -> list[int]:
    """Up to `count` rows that this batch has not asked yet, in any process."""
    left = [row for row in trainer.leg.rows if row not in used]
    return random.Random(f"{trainer.config.run.seed}/sampling/{trainer.batches}/{turn}").sample(left, min(count, len(left)))
