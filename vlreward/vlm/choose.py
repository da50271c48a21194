"""Held-out samples answered by a chooser, beside one answer each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vlreward.run import Progress
from vlreward.statistics import interval
from vlreward.types import Rollout
from vlreward.vlm.writing import Writer

if TYPE_CHECKING:
    from vlreward.vlm.train import Sitting


def choose(sitting: Sitting, single: Sequence[Rollout]) -> dict[str, float]:
    """Answer, judge and log the held-out samples as phase 'after'; per sample the tokens and answers that one (`single`) and the chooser
    took."""
    block = sitting.config.eval
    assert block is not None and block.choose is not None, "there is nothing to choose by"
    policy = sitting.config.policy
    writer = Writer(
        policy=sitting.policy, processor=sitting.processor, temperature=block.temperature, max_new_tokens=policy.max_new_tokens,
        clips=policy.clips, batch=block.batch, seed=block.seed,
    )  # fmt: skip
    with Progress(block.choose.kind, len(sitting.held_out)) as progress:
        choices = block.choose.choose(writer, sitting.held_out, progress.advance)
    rollouts = [replace(choice.rollout, group=i) for i, choice in enumerate(choices)]
    table = sitting.config.rewards(rollouts, sitting.device)
    sitting.folder.rollouts("after", 1, rollouts, table)
    sitting.folder.evaluation("after", rollouts, table)
    return {
        "tokens_single": interval([rollout.num_tokens or 0 for rollout in single]).mean,
        "tokens": interval([choice.tokens for choice in choices]).mean,
        "answers": interval([choice.answers for choice in choices]).mean,
    }
