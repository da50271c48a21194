"""Rewards in TRL's GRPOTrainer and RLOOTrainer (1.16)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vlreward.adapters.rows import Rewards, attempt, composite, grouped, numbers, row_of, target_of, visuals_of, words


def trl_reward(rewards: Rewards, name: str = "", rename: Mapping[str, str] | None = None, device: str = "cpu") -> Callable[..., Any]:
    """A reward function for `reward_funcs`: the weighted total of each completion, None where it is NaN.

    Dataset columns make the target, renamed by `rename`, such as {"solution": "answer"}; pictures come from the column `image` or
    `images`, else from the prompt. Several terms are logged beside their total; `[trl_reward(term.reward) for term in composite.terms]`
    gives TRL one column each instead. Rows one behind the other with the same prompt and columns are a group.
    """
    terms = composite(rewards)

    def reward(
        prompts: list[Any], completions: list[Any], completion_ids: list[list[int]] | None = None, trainer_state: Any = None,
        log_extra: Callable[[str, list[Any]], None] | None = None, log_metric: Callable[[str, float], None] | None = None,
        environments: Any = None, **columns: Any,
    ) -> list[float | None]:  # fmt: skip
        rollouts = []
        for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            row, tokens = row_of(columns, i), len(completion_ids[i]) if completion_ids is not None else None
            target, visuals = target_of(row, rename or {}), visuals_of(row, prompt)
            text = words(completion, "assistant")
            rollouts.append(attempt(words(prompt, "user"), target, text, visuals=visuals, num_tokens=tokens, id=row.get("id")))
        table = terms(grouped(rollouts), device)
        if log_extra and len(terms.names) > 1:
            for column, term in enumerate(terms.names):
                log_extra(f"{reward.__name__}/{term}", numbers(table.scores[:, column]))
        if log_metric:
            log_metric(f"{reward.__name__}/broken", float(table.broken.sum()))
        return numbers(table.total)

    reward.__name__ = name or "+".join(terms.names)
    return reward
