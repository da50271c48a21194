"""Rewards for the steps of a text, which an advantage can credit to the tokens that wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from vlreward.data.text_steps import steps
from vlreward.errors import ConfigError
from vlreward.registry import register
from vlreward.rewards.base import Reward, by_group
from vlreward.types import RewardOutput, Rollout, Segment


@register("each_step")
@dataclass(kw_only=True)
class EachStep(Reward):
    """What `of` gives to each sentence, line or paragraph of the text by itself: their mean or minimum. In the bounds of `of`.

    The steps are the segments, so `segment_credit` and `process` give each token its own step's reward. A step to which `of` does not
    apply does not count; a text without steps is judged as it is.

    Source: segment-level rewards for hallucination, FGAIF (arXiv 2404.05046) and M-HalDetect (arXiv 2308.06394), for any judge; `form`
    as in the aggregation of process rewards of PURE (arXiv 2504.15275).

    Known cheats: padding with safe sentences raises the mean (use `form: minimum`, or a length reward beside it); one long sentence
    instead of several (`minimum` gains nothing by it); those of `of`, on each step.

    Example: {keys: {of: {kind: exact_match, tags: false}}, text: "red. blue.", target: {answer: red.}} -> 0.5
    """

    of: Reward
    part: Literal["sentence", "line", "paragraph"] = "sentence"
    form: Literal["mean", "minimum"] = "mean"
    needs = ("text",)

    def __post_init__(self):
        if self.of.scope == "group":
            raise ConfigError(f"is {self.of.kind!r}, which compares whole rollouts; steps are judged one by one", "of")
        self.bounds = self.of.bounds  # type: ignore[misc]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        places = [steps(rollout.text or "", self.part) for rollout in rollouts]
        alone = [
            replace(rollout, text=(rollout.text or "")[start:end], num_tokens=None, likelihood=None)
            for rollout, spans in zip(rollouts, places, strict=True)
            for start, end in spans or [(0, len(rollout.text or ""))]
        ]
        judged = self.of.score(alone)
        output = RewardOutput(scores=torch.full((len(rollouts),), float("nan"), dtype=torch.float64))
        values, taken = judged.scores.to("cpu", torch.float64), 0
        for row, spans in enumerate(places):
            among = range(taken, taken + max(len(spans), 1))
            taken = among.stop
            value = values[list(among)]
            output.errors[row] = next((judged.errors[i] for i in among if judged.errors[i]), None)
            kept = value[~value.isnan()]
            if len(kept) and not output.errors[row]:
                output.scores[row] = kept.mean() if self.form == "mean" else kept.min()
                pairs = zip(spans, value.tolist(), strict=False)
                output.segments[row] = [Segment(start=a, end=b, reward=r) for (a, b), r in pairs if r == r]
                output.notes[row] = f"steps {', '.join(f'{r:.2g}' for r in value.tolist())}"
        return output


@register("tree_steps")
@dataclass(kw_only=True)
class TreeSteps(Reward):
    """`of`, and for each step of the text the mean of `of` over the group's rollouts that share the text up to the step's end.

    In the bounds of `of`. The steps are the segments; each one's `state` is the text before it, so rollouts that go on differently from
    the same text can be compared by `step_groups`.

    Source: the step values of TreeRPO, arXiv 2506.05183: a node is worth the mean of the leaves below it.

    Known cheats: those of `of`. Where all rollouts differ from the first step on, each step is worth its own rollout's reward and nothing
    is gained (sample from a tree, or at a lower temperature).

    Example: {keys: {of: exact_match}, text: "<answer>red</answer>", target: {answer: red}} -> 1
    """

    of: Reward
    part: Literal["sentence", "line", "paragraph"] = "line"
    needs = ("text",)
    scope = "group"

    def __post_init__(self):
        self.bounds = self.of.bounds  # type: ignore[misc]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        judged = self.of.score(rollouts)
        scores = judged.scores.to("cpu", torch.float64).tolist()
        for rows in by_group(rollouts):
            below: dict[str, list[float]] = {}
            paths: dict[int, list[tuple[int, int]]] = {}
            for row in rows:
                text = rollouts[row].text or ""
                paths[row] = steps(text, self.part) if scores[row] == scores[row] else []
                for _, end in paths[row]:
                    below.setdefault(text[:end], []).append(scores[row])
            for row, path in paths.items():
                judged.segments[row] = _path(rollouts[row].text or "", path, below)
        return replace(judged, parts={"of": judged.scores} | judged.parts)


def _path(text: str, path: Sequence[tuple[int, int]], below: dict[str, Any]) -> list[Segment]:
    """A rollout's way through the tree: each step's state is the text up to the end of the step before."""
    ends = [0, *(end for _, end in path)]
    return [
        Segment(start=start, end=end, reward=sum(below[text[:end]]) / len(below[text[:end]]), state=text[:before])
        for before, (start, end) in zip(ends, path, strict=False)
    ]
