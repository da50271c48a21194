"""Learn only from the tokens that matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch

from vlreward.advantages.adjusted import Adjusted
from vlreward.config import Bound
from vlreward.errors import ConfigError
from vlreward.registry import register
from vlreward.types import RewardTable


@register("key_tokens")
@dataclass(kw_only=True)
class KeyTokens(Adjusted):
    """`of`, learned only from the tokens that hang on what is seen, on the order of frames, or on a choice; the loss leaves out the rest.

    For each signal in `by`, the tokens of a group whose value is at least its quantile at 1 - `share` are kept, and what any signal
    keeps is learned from. With pi the policy that wrote the answers, y_t a token and v the pictures and clips:
    `visual`    log pi(y_t | v) - log pi(y_t | v blanked), all pixels 0 as the model reads them;
    `temporal`  log pi(y_t | v) - log pi(y_t | v, its clips' frames shuffled); prompts without a clip have none;
    `entropy`   the entropy of pi at t.

    Source: Video-KTR, arXiv 2601.19686, with its published code's quantiles over the tokens of one prompt's rollouts (`share` 0.2). That
    code blanks by hiding the visual tokens from attention.

    Use it for long answers, of which most words hang on nothing seen. It costs a forward pass for each signal. Traps: in answers of a few
    tokens a fifth may be one coordinate; where all values are equal all tokens are kept.
    """

    share: Annotated[float, Bound(0, 1, above=True)] = 0.2
    by: tuple[Literal["visual", "temporal", "entropy"], ...] = ("visual", "temporal", "entropy")

    def __post_init__(self):
        if not self.by:
            raise ConfigError("is empty, expected some of visual, temporal, entropy", "by")

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.by, *self.of.reads)))

    def factor(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(group_B), dtype=torch.float64)

    def learned(self, table: RewardTable, group_B: torch.Tensor) -> torch.Tensor:
        among = self.of.learned(table, group_B)
        kept = torch.stack([self._top(table.by_token[name], group_B) for name in self.by]).any(0)
        return kept if among is None else kept & among

    def _top(self, signal_BT: torch.Tensor, group_B: torch.Tensor) -> torch.Tensor:
        """[B,T] bool: the highest `share` of each group's values; NaN is none."""
        kept = torch.zeros_like(signal_BT, dtype=torch.bool)
        for group in group_B.unique():
            rows = group_B == group
            values = signal_BT[rows]
            found = values[~values.isnan()]
            if len(found):
                kept[rows] = values >= torch.quantile(found, 1 - self.share)
        return kept
