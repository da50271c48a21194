"""Different rewards for samples of different tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from vlreward.errors import ConfigError
from vlreward.registry import register
from vlreward.rewards.base import Reward, failed
from vlreward.types import RewardOutput, Rollout


@register("route")
@dataclass(kw_only=True)
class Route(Reward):
    """The reward that `of` names for the sample's `target.task`. In the widest of their bounds.

    Each reward is called once with the rollouts of its task. A task that `of` does not name goes to `otherwise`; without that it is
    broken data. A sample without `target.task` is not judged (NaN), nor is one that lacks what its task's reward needs.

    Source: Mixed-R1 (arXiv 2505.24164), which rewards matching, chart, grounding and open-ended samples each in its own way.

    Known cheats: those of the rewards, each on its own task; tasks whose rewards lie on different scales share no group, so only
    advantages that compare beyond the group see the difference (wrap them in `centred_sigmoid` then).

    Example: {keys: {of: {color: exact_match, count: numeric_match}}, text: "<answer>3.0</answer>", target: {task: count, answer: 3}} -> 1
    """

    of: Mapping[str, Reward]
    otherwise: Reward | None = None
    needs = ("target.task",)

    def __post_init__(self):
        if not self.of:
            raise ConfigError("is empty, expected a reward for each task", "of")
        self._rewards = [*self.of.values(), *([self.otherwise] if self.otherwise else [])]
        lows, highs = zip(*(reward.bounds for reward in self._rewards))
        self.bounds = (min(lows), max(highs))  # type: ignore[misc]
        self.differentiable = all(reward.differentiable for reward in self._rewards)  # type: ignore[misc]
        self.scope = "group" if any(reward.scope == "group" for reward in self._rewards) else "rollout"  # type: ignore[misc]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        rows: dict[str, list[int]] = {}
        for i, rollout in enumerate(rollouts):
            rows.setdefault(str(rollout.sample.target["task"]), []).append(i)
        scores = torch.full((len(rollouts),), float("nan"), dtype=torch.float64)
        whole = RewardOutput(scores=scores)
        for task, places in rows.items():
            output = self._judge(task, [rollouts[i] for i in places])
            whole.scores = whole.scores.index_copy(0, torch.tensor(places), output.scores.to("cpu", torch.float64))
            whole.parts[task] = scores.index_copy(0, torch.tensor(places), output.scores.detach().to("cpu", torch.float64))
            for place, i in enumerate(places):
                whole.notes[i], whole.errors[i] = output.notes[place], output.errors[place]
                whole.marks[i], whole.segments[i] = output.marks[place], output.segments[place]
        return whole

    def _judge(self, task: str, rollouts: Sequence[Rollout]) -> RewardOutput:
        reward = self.of.get(task, self.otherwise)
        if reward is None:
            return failed(len(rollouts), f"target.task is {task!r}, expected one of {', '.join(self.of)}")
        return reward.score(rollouts)
