"""Held-out comparisons, judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from vlreward.critics.measures import Judged, pairs
from vlreward.critics.network import Critic
from vlreward.critics.verdicts import Batch
from vlreward.run.launch import Launch
from vlreward.types import Comparison


@torch.no_grad()
def judge(critic: Critic, comparisons: Sequence[Comparison], batch: int, done: Callable[[int], None] = lambda count: None) -> list[Judged]:
    """Every comparison as the critic judges it; a critic that is learning goes on learning afterwards."""
    learning, found = critic.training, []
    critic.eval()
    for first in range(0, len(comparisons), batch):
        part = comparisons[first : first + batch]
        rows = Batch.of(part, critic.device)
        verdicts = critic.judge(rows.rollouts)
        start = 0
        for comparison in part:
            span = slice(start, start + len(comparison.rollouts))
            order = pairs(comparison.scores)
            better, worse = (
                torch.tensor([start + pair[side] for pair in order], dtype=torch.long, device=critic.device) for side in (0, 1)
            )
            chances = critic.head.prefers(verdicts, better, worse).tolist() if order else []
            known = {name: values for name, values in comparison.aspects.items() if name in critic.head.aspects}
            found.append(
                Judged(
                    id=comparison.id,
                    subset=comparison.subset,
                    given=comparison.scores,
                    scores=verdicts.scores[span].tolist(),
                    prefers=dict(zip(order, chances, strict=True)),
                    lengths=[None if rollout.text is None else len(rollout.text) for rollout in comparison.rollouts],
                    aspects={name: (values, verdicts.parts[name][span].tolist()) for name, values in known.items()},
                )
            )
            start = span.stop
        done(len(part))
    critic.train(learning)
    return found


def judge_together(
    launch: Launch, critic: Critic, comparisons: Sequence[Comparison], batch: int, done: Callable[[int], None] = lambda count: None
) -> list[Judged]:
    """The same by the processes of a launch, which take turns at batches; all in the first process, nothing in the others."""
    batches = [comparisons[first : first + batch] for first in range(0, len(comparisons), batch)]
    everyone = launch.hand_over([judge(critic, part, batch, done) for part in launch.share(batches)])
    return [one for number in range(len(batches) if everyone else 0) for one in everyone[number % launch.count][number // launch.count]]
