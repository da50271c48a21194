"""Rewards in verl (github.com/volcengine/verl at b178a3c)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from vlreward.adapters.rows import Rewards, attempt, composite, refuse_groups, scores_of, truth, visuals_of


def verl_reward(rewards: Rewards, missing: float = 0.0, device: str = "cpu") -> Callable[..., Any]:
    """A `custom_reward_function`: `score`, each term by name, and `broken`; a list of them where the reward manager is verl's batch one.

    The ground truth is the target if it is a mapping or JSON of one, else `target.answer`; pictures come from `extra_info["images"]`.
    verl counts no tokens for a reward. Its managers call from several threads, which wait for each other here.
    """
    terms, lock = refuse_groups(composite(rewards), "verl"), threading.Lock()

    def judge(texts: Any, truths: Any, infos: Any) -> list[dict[str, float]]:
        rows = zip(texts, truths, infos, strict=True)
        rollouts = [attempt("", truth(true), text, visuals=visuals_of(info or {})) for text, true, info in rows]
        with lock:
            table = terms(rollouts, device)
        return [scores_of("score", table, i, missing) for i in range(len(rollouts))]

    def compute_score(
        data_source: Any = None, solution_str: str = "", ground_truth: Any = None, extra_info: Any = None, *, data_sources: Any = None,
        solution_strs: Any = None, ground_truths: Any = None, extra_infos: Any = None, **_: Any,
    ) -> Any:  # fmt: skip
        if solution_strs is not None:
            return judge(solution_strs, ground_truths, extra_infos)
        return judge([solution_str], [ground_truth], [extra_info])[0]

    return compute_score
