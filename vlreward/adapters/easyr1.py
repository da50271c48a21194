"""Rewards in EasyR1 (github.com/hiyouga/EasyR1 at b44b311)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vlreward.adapters.rows import Rewards, attempt, composite, refuse_groups, scores_of, truth


def easyr1_reward(rewards: Rewards, missing: float = 0.0, device: str = "cpu") -> Callable[..., list[dict[str, float]]]:
    """The `compute_score` of a reward file of type "batch": `overall`, each term by name, and `broken`, for each response.

    The ground truth is the target if it is JSON of a mapping, else `target.answer`. EasyR1 hands over no picture and no prompt.
    """
    terms = refuse_groups(composite(rewards), "EasyR1")

    def compute_score(reward_inputs: list[dict[str, Any]]) -> list[dict[str, float]]:
        rollouts = [
            attempt("", truth(item["ground_truth"]), item["response"], num_tokens=int(item["response_length"])) for item in reward_inputs
        ]
        table = terms(rollouts, device)
        return [scores_of("overall", table, i, missing) for i in range(len(rollouts))]

    return compute_score
