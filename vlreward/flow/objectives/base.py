"""The objective: the five places where alignment methods differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from vlreward.advantages.base import Advantage
from vlreward.flow.collect import Batch, Collected, Judge
from vlreward.flow.latent_reward import ConditionOf
from vlreward.flow.plan import Plan
from vlreward.flow.policies import Policies
from vlreward.flow.rollout import Velocity
from vlreward.flow.sampler import Sampler
from vlreward.types import Loss, RewardTable

if TYPE_CHECKING:
    from vlreward.flow.processes import Processes

STEPS = ("window", "window_from", "window_until", "slide", "trained")
"""Keys of `sampler:` that choose the noisy steps and those that are trained."""


@dataclass(kw_only=True)
class Objective:
    """Base of all objectives. A loss sees an opaque velocity and never a model, an adapter, guidance or autocast."""

    family: ClassVar[str] = "objectives"
    kind: ClassVar[str]
    needs_log_prob: ClassVar[bool] = True
    """Refuse a sampler whose kernel is deterministic."""
    whole_groups: ClassVar[bool] = False
    """Refuse micro-batches that cannot hold whole groups."""
    overrides: ClassVar[tuple[str, ...]] = ()
    """Keys of `sampler:` that mean nothing to it, since its own plan decides them; refused where they are set."""
    offline: ClassVar[bool] = False
    """Refuse rollouts of the generator's own: it learns from given pictures alone."""
    own_preferences: ClassVar[bool] = False
    """What is better stands in the data, and rewards only watch; a control that shuffles them is refused."""
    needs_gradient: ClassVar[bool] = False
    """Refuse rewards without one, and give `collected` a judge with one."""

    @property
    def policies(self) -> frozenset[str]:
        """Named weights besides `train` that the loss asks for."""
        return frozenset()

    def check(self, size: int) -> None:
        """Refuse groups of a size that it cannot work with. Raises ConfigError, whose key is one of its own fields."""

    def unfollowed(self) -> str | None:
        """Why an on-policy update's gradient cannot be taken while sampling, for `optim.backward`; None where it can."""
        return f"the gradient of {self.kind!r} is no sum of one advantage a rollout"

    def plan(self, sampler: Sampler, grid: torch.Tensor, epoch: int, seed: int) -> Plan:
        """How this epoch's rollouts are made; the sampler's own plan by default."""
        return sampler.plan(grid, epoch, seed)

    def score(self, collected: Collected, judge: Judge) -> RewardTable:
        """Judge the finished rollouts; a method with rewards of its own on the way asks for more."""
        return judge(collected.rollouts)

    def credit(self, collected: Collected, table: RewardTable, advantage: Advantage) -> None:
        """Set advantages and weights [B,S]; by default each trained step gets its rollout's advantage, and weight 1."""
        advantage_B = advantage(table, collected.group_B)
        collected.advantage_BS = advantage_B[:, None].expand(-1, collected.plan.trained)
        collected.weight_BS = torch.ones_like(collected.advantage_BS)

    def choose(self, collected: Collected, table: RewardTable) -> None:
        """Say which rollouts are trained on, once credit is given; all of them by default."""

    def loss(self, velocity: Velocity, batch: Batch) -> Loss:
        """The loss of one batch."""
        raise NotImplementedError(f"{type(self).__name__} must define loss")

    def after_epoch(self, policies: Policies, epoch: int) -> None:
        """What happens to named weights; nothing by default."""

    def prepare(self, shape: Sequence[int], condition: ConditionOf, processes: Processes, seed: int) -> None:
        """Begin anew, for a method that keeps more than named weights: called before a run, and before a saved state is put back.

        `shape` is that of one rollout's latents.
        """

    def state_dict(self) -> dict[str, Any]:
        """All that it keeps from epoch to epoch: tensors, numbers and texts in plain containers."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""

    def figures(self) -> dict[str, float]:
        """What to log of it after each epoch."""
        return {}

    def export(self, folder: Path) -> None:
        """Write what was learned besides policies into the run's folder."""
