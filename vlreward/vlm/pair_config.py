"""The configuration of `vlreward train-vlm` where it learns from preference pairs: it has `preferences`, and no `group`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vlreward.config import Count, NotNegative
from vlreward.data.source import Source
from vlreward.errors import ConfigError
from vlreward.rewards.composite import Composite
from vlreward.run import Device, Run
from vlreward.vlm.config import OWNED, PAIR_VALUES, Evaluation, Optim, Policy, check_trl
from vlreward.vlm.preferences.fine import Fine
from vlreward.vlm.preferences.sources import Mined, Preferences

PAIR_OWNED = OWNED | {
    "per_device_train_batch_size": "micro_batch",
    "gradient_accumulation_steps": "batch",
    "max_length": "policy.max_new_tokens",
    "truncation_mode": "policy.max_new_tokens",
    "precompute_ref_log_probs": "policy (the reference is computed beside it)",
    "sync_ref_model": "policy (the reference stays the first policy)",
}
"""Options of TRL's DPOConfig that have a key of their own here."""


@dataclass(frozen=True, kw_only=True)
class TrainPairs:
    """A run that aligns a policy with preference pairs: DPO and its relatives."""

    run: Run
    data: Source
    policy: Policy
    preferences: Preferences
    batch: Count
    """Pairs a step."""
    micro_batch: Count | None = None
    """Pairs in one forward and backward pass; None is all of a step's."""
    rewards: Composite
    """What makes an answer better, and what held-out answers are judged by."""
    optim: Optim
    fine: Fine | None = None
    """Which parts of the answers the preference is about; None: all of them."""
    length_alpha: NotNegative = 0.0
    """Added to the loss's margin for each token that the chosen answer is longer, taken off for each it is shorter, so that length does
    not count as a reason (R-DPO, arXiv 2403.19159)."""
    eval: Evaluation | None = None
    trl: Mapping[str, Any] = field(default_factory=dict)
    """Options of TRL's DPOConfig, passed on as they are: beta, loss_type, label_smoothing, ld_alpha, ..."""
    control: Literal["none", "shuffle_rewards"] = "none"
    """`shuffle_rewards` lets chosen and rejected change places in half of the pairs: a run that must not learn."""
    device: Device = "auto"

    def __post_init__(self):
        if self.trl:
            from trl.trainer.dpo_config import DPOConfig

            check_trl(self.trl, DPOConfig, PAIR_OWNED, PAIR_VALUES)
        if self.batch % (self.micro_batch or 1):
            raise ConfigError(f"is {self.micro_batch}, expected a divisor of batch = {self.batch}", "micro_batch")
        if not self.policy.shared_prefix:
            raise ConfigError("is false, but the two answers of a pair always share their prompt's row; remove it", "policy.shared_prefix")
        mined = isinstance(self.preferences, Mined)
        if self.fine and self.fine.labels and mined and self.labels not in self.rewards.names:
            raise ConfigError(f"is {self.labels!r}, expected a term of `rewards`: {', '.join(self.rewards.names)}", "fine.of")

    @property
    def labels(self) -> str | None:
        """The term whose segments the loss goes by."""
        return getattr(self.fine, "of", None)
