"""Near misses are written right from their first wrong step on, and learned from with the weight that foreign tokens have.

Legend: B answers, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from vlreward.config import Count, Fraction, Positive
from vlreward.errors import DataError
from vlreward.rewards.base import Reward, by_group
from vlreward.types import RewardOutput, Rollout, Sample, Segment


@dataclass(frozen=True, kw_only=True)
class Correction:
    """The `correction:` block: a near miss keeps its right steps and goes on as the reference does.

    A rollout is a near miss if `outcome` is below `right_at` and at least the share `least` of the reference's steps stand before its first
    wrong one, that is the first segment that the term `steps` gives less than `step_right_at`. The best `most` of each group are corrected,
    provided that `outcome` finds the result right; the advantage then compares them with the rest. Tokens that the policy wrote keep the
    loss's own ratio; for those that it did not, the ratio is pi / (pi + gamma), not clipped, so that the unlikely ones still count.
    Training figures count corrected rollouts as what they became; `corrected` says how many there were.

    Source: SCOPE, arXiv 2602.24110 (its abstract): the first wrong step by a process judge, corrected from there on, off-policy. Its
    teacher is the reference here; the weights are not SCOPE's own but LUFFY's (arXiv 2504.14945: pi_teacher 1, gamma 0.1, one of
    eight rollouts), and `least` is ours.
    """

    reference: str
    """A right text, with fields of the sample's target in braces: '<answer>{text}</answer>'."""
    steps: str
    """The term of `rewards` that marks steps, 1 for a right one; weight 0 where it should not be learned."""
    outcome: str
    """The term of `rewards` that says whether a text is right."""
    least: Fraction = 0.5
    most: Count = 1
    right_at: float = 1.0
    step_right_at: float = 0.5
    gamma: Positive = 0.1


@dataclass(frozen=True)
class Corrected:
    """A text of which the policy wrote the first `kept` characters."""

    text: str
    kept: int


def correct(block: Correction, steps: Reward, outcome: Reward, rollouts: Sequence[Rollout], device: str) -> list[Corrected | None]:
    """[B] the rollouts that are near misses with what they become; None for all that stay as they are. Raises DataError."""
    process, total = steps.score(rollouts, device), outcome.score(rollouts, device)
    wrong = (total.scores < block.right_at).tolist()
    groups = by_group(rollouts)
    models = [replace(rollouts[rows[0]], text=reference(block, rollouts[rows[0]].sample)) for rows in groups]
    guide, fine = steps.score(models, device), (outcome.score(models, device).scores >= block.right_at).tolist()
    found: list[tuple[int, float, Corrected]] = []
    for number, rows in enumerate(groups):
        theirs = in_order(guide, number)
        if not fine[number] or right_steps(block, theirs) < len(theirs):
            continue
        for row in rows:
            mine = in_order(process, row)
            right = min(right_steps(block, mine), len(theirs))
            if wrong[row] and right and right >= block.least * len(theirs):
                cut = mine[right - 1].end
                text = (rollouts[row].text or "")[:cut] + (models[number].text or "")[theirs[right - 1].end :]
                found.append((row, right / len(theirs), Corrected(text, cut)))
    verdicts = outcome.score([replace(rollouts[row], text=one.text) for row, _, one in found], device).scores.tolist()
    best = [number for number, verdict in enumerate(verdicts) if verdict >= block.right_at]
    best.sort(key=lambda number: -found[number][1])
    chosen: list[Corrected | None] = [None] * len(rollouts)
    left = {rollouts[rows[0]].group: block.most for rows in groups}
    for row, _, one in (found[number] for number in best):
        if left[rollouts[row].group]:
            left[rollouts[row].group] -= 1
            chosen[row] = one
    return chosen


def reference(block: Correction, sample: Sample) -> str:
    """The right text of a sample. Raises DataError where its target lacks a field."""
    try:
        return block.reference.format_map(sample.target)
    except KeyError as error:
        raise DataError(f"sample {sample.id!r}: its target has no {error}, which correction.reference names") from None


def in_order(judged: RewardOutput, row: int) -> list[Segment]:
    """The segments of one rollout as they stand in its text."""
    return sorted(judged.segments[row], key=lambda part: (part.start, part.end))


def right_steps(block: Correction, parts: Sequence[Segment]) -> int:
    """How many steps stand before the first wrong one."""
    return next((i for i, part in enumerate(parts) if not part.reward >= block.step_right_at), len(parts))


def shape(inputs: dict[str, Any], logps_BT: torch.Tensor, gamma: float) -> None:
    """Give the tokens in `inputs['borrowed']` the gradient of advantage * pi / (pi + gamma), whatever the loss clips.

    Its derivative is gamma * pi / (pi + gamma)^2 times that of log pi, so that factor goes to the advantage and the ratio is held at 1.
    """
    borrowed, now = inputs["borrowed"], logps_BT.detach()
    chance = now.exp()
    advantages = inputs["advantages"]
    advantages = advantages if advantages.ndim > 1 else advantages[:, None].expand_as(now)
    inputs["advantages"] = torch.where(borrowed, advantages * gamma * chance / (chance + gamma) ** 2, advantages)
    if inputs.get("old_per_token_logps") is not None:
        inputs["old_per_token_logps"] = torch.where(borrowed, now, inputs["old_per_token_logps"])
