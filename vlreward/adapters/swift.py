"""Rewards in ms-swift (github.com/modelscope/ms-swift at 3602360)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlreward.adapters.rows import Rewards, attempt, composite, grouped, numbers, row_of, target_of, visuals_of, words


def swift_orm(rewards: Rewards, name: str = "", rename: Mapping[str, str] | None = None, device: str = "cpu") -> type:
    """A class for a plugin, `orms["box_iou"] = swift_orm("box_iou")`: the weighted total of each completion, None where it is NaN.

    Dataset columns make the target, renamed by `rename`, such as {"solution": "answer"}. Rollouts with one `prompt_id` are a group.
    """
    terms = composite(rewards)

    class Orm:
        def __init__(self, args: Any = None, **kwargs: Any):
            self.args = args

        def __call__(self, completions: list[str], **kwargs: Any) -> list[float | None]:
            rollouts, prompt_ids = [], kwargs.get("prompt_id")
            for i, completion in enumerate(completions):
                row = row_of(kwargs, i)
                tokens, prompt = row.get("response_token_ids"), words(row.get("messages") or "", "user")
                count, visuals = len(tokens) if tokens else None, visuals_of(row)
                rollouts.append(
                    attempt(prompt, target_of(row, rename or {}), completion, visuals=visuals, num_tokens=count, id=row.get("id"))
                )
            return numbers(terms(grouped(rollouts, prompt_ids), device).total)

    Orm.__name__ = name or "+".join(terms.names)
    return Orm
