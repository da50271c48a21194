"""Does an answer think first, and should it have?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from vlreward.config import Count, Positive
from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.base import Reward
from vlreward.rewards.lengths import Judged
from vlreward.types import Rollout

THOUGHT = re.compile(r"(?:<think>)?(.*?)</think>", re.DOTALL)


def mode(text: str) -> Literal["slow", "fast", ""]:
    """`slow`: a `<think>...</think>` with something in it stands first (its opening tag may belong to the prompt); `fast`: an empty
    one, or none; '' where a thought is opened and never closed."""
    text = text.strip()
    found = THOUGHT.match(text)
    if found:
        return "slow" if found.group(1).strip() else "fast"
    return "" if "<think>" in text else "fast"


@register("thinking_mode")
@dataclass(kw_only=True)
class ThinkingMode(Reward):
    """1 if the answer thinks where `target.thinking` is `slow` and does not where it is `fast`; else 0.

    Thinking is a `<think>...</think>` with something in it, before anything else. `fast_prefix` and `slow_prefix`, where given, are
    what an answer of that mode begins with instead of tags.

    Source: DualMindVLM, arXiv 2511.16670 (modes announced by a prefix, labelled by how long the untrained model answers);
    <think> tags are the common form.

    Known cheats: announcing one mode and writing in the other (pair with `length_budget`); a thought of one word counts as thinking;
    thinking after the tags (pair with `answer_format`, or see `no_thinking_bonus`); an unclosed thought (0 in either mode).

    Example: {text: "<think>two red, one blue</think> <answer>3</answer>", target: {thinking: slow}} -> 1
    """

    fast_prefix: str = ""
    slow_prefix: str = ""
    needs = ("text", "target.thinking")

    def one(self, rollout: Rollout) -> tuple[float, str]:
        wanted = rollout.sample.target["thinking"]
        if wanted not in ("slow", "fast"):
            raise DataError(f"target.thinking is {wanted!r}, expected 'slow' or 'fast'")
        text = (rollout.text or "").lstrip()
        if self.fast_prefix or self.slow_prefix:
            prefixes = {"fast": self.fast_prefix, "slow": self.slow_prefix}
            shown = [name for name, prefix in prefixes.items() if prefix and text.startswith(prefix)]
            found = shown[0] if len(shown) == 1 else ""
        else:
            found = mode(text)
        return float(found == wanted), f"{found or 'no'} mode, wanted {wanted}"


@register("no_thinking_bonus")
@dataclass(kw_only=True)
class NoThinkingBonus(Judged):
    """1 if right, plus `bonus` for an answer without a thought that is no longer than `max`. In [0, 1 + bonus].

    Source: AdaptThink, arXiv 2505.13417 (its delta 0.05; the policy's earlier accuracy, which it subtracts, is constant within a
    group and so drops out of group-relative advantages).

    Known cheats: thinking without the tags, in the answer itself (arXiv 2601.04805; only answers up to `max` get the bonus); not
    thinking where it is needed (costs the 1 of being right whenever it does harm); an unclosed thought (no bonus).

    Example: {keys: {correct: exact_match, max: 20}, text: "<answer>red</answer>", num_tokens: 9, target: {answer: red}} -> 1.05
    """

    max: Count
    bonus: Positive = 0.05

    def __post_init__(self):
        self.bounds = (0.0, 1.0 + self.bonus)  # type: ignore[misc]

    def weigh(self, right_B: torch.Tensor, length_B: torch.Tensor, rollouts: Sequence[Rollout]) -> torch.Tensor:
        fast = torch.tensor([mode(rollout.text or "") == "fast" for rollout in rollouts], dtype=torch.float64)
        return right_B + self.bonus * fast * (length_B <= self.max)
