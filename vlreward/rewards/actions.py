"""Rewards for what was done in rollouts of several turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from vlreward.config import NotNegative
from vlreward.errors import ConfigError
from vlreward.registry import register
from vlreward.rewards.answers import final_answer
from vlreward.rewards.base import Reward
from vlreward.rewards.parsing import read_boxes
from vlreward.types import Action, RewardOutput, Rollout, Segment

ANSWERS = ("answer", "revision")
"""Names of actions that are no call."""


@register("last_turn")
@dataclass(kw_only=True)
class LastTurn(Reward):
    """What `of` gives to the words of the last turn alone. In the bounds of `of`.

    Source: ours, so that rewards on a whole text, such as `answer_format`, can judge rollouts with turns before the answer.

    Known cheats: those of `of`; earlier turns are judged by nobody here (`each_action`, `tool_use`).
    """

    of: Reward
    needs = ("text", "actions")

    def __post_init__(self):
        self.bounds = self.of.bounds  # type: ignore[misc]
        self.scope = self.of.scope  # type: ignore[misc]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        return self.of.score([alone(rollout, last(rollout)) for rollout in rollouts])


@register("in_view")
@dataclass(kw_only=True)
class InView(LastTurn):
    """What `of` gives to the last answer's boxes once they are moved from the view that was shown last to the picture. In its bounds.

    The view is that of the last `crop`; its boxes are in `frame` of what was shown. An answer without a view is judged as it is, with its
    boxes in pixels of the picture; one without a box counts as empty.

    Source: ours, for policies that answer in a zoomed view, as agents do on screens.

    Known cheats: those of `of`. A view of a wrong place cannot be answered well, and one of the whole picture gains nothing.
    """

    frame: Literal["pixels", "thousand", "unit"] = "pixels"

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        return self.of.score([self.moved(rollout) for rollout in rollouts])

    def moved(self, rollout: Rollout) -> Rollout:
        """The rollout whose text is its last answer, with the boxes in pixels of the picture."""
        answered = alone(rollout, last(rollout))
        found = final_answer(answered.text or "")
        views = [action.facts for action in rollout.actions or () if "view" in action.facts]
        if found is None or not views:
            return answered
        boxes, _ = read_boxes([found[0]])
        left, top, right, bottom = views[-1]["view"]
        wide, high = {"pixels": views[-1]["size"], "thousand": (1000, 1000), "unit": (1, 1)}[self.frame]
        scale = np.array([(right - left) / wide, (bottom - top) / high] * 2)
        moved = boxes * scale + np.array([left, top] * 2)
        listed = ", ".join(f"[{', '.join(f'{value:.3f}' for value in box)}]" for box in moved.tolist())
        return replace(answered, text=f"<answer>{listed}</answer>")


@register("each_action")
@dataclass(kw_only=True)
class EachAction(Reward):
    """A reward of its own for each action: `of` says for each name of an action what judges it. In the bounds of `of`, widened to hold 0.

    A judge sees one action as if it were the whole rollout: a call with what the tool found, or an answer after the calls before it. A call
    that failed is worth 0. Each name counts by the mean over its actions, a name that never came up by 0, and all names count alike. The
    actions are the segments, from the end of the one before, so `segment_credit`, `step_groups` and `process` credit each to the tokens
    that chose it.

    Source: dense rewards for retrieving, selecting, cropping and answering as in UniDoc-RL (arXiv 2604.14967), and for each
    zoom as in LOVE-R1 (arXiv 2509.24786); the aggregation over names is ours.

    Known cheats: repeating a good call (a mean does not grow); leaving a call out (its name counts 0); calls that fail on purpose (0, and
    `tool_use`); those of each judge.
    """

    of: Mapping[str, Reward]
    needs = ("text", "actions")

    def __post_init__(self):
        if not self.of:
            raise ConfigError("is empty, expected a reward for each name of an action, such as answer or crop", "of")
        for name, reward in self.of.items():
            if reward.scope == "group":
                raise ConfigError(f"is {reward.kind!r}, which compares whole rollouts; actions are judged one by one", f"of.{name}")
        ends = [end for reward in self.of.values() for end in reward.bounds]
        self.bounds = (min(0.0, *ends), max(0.0, *ends))  # type: ignore[misc]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        places = [(row, i, action) for row, rollout in enumerate(rollouts) for i, action in enumerate(rollout.actions or ())]
        worth: dict[tuple[int, int], float] = {(row, i): 0.0 for row, i, action in places if action.error is not None}
        output = RewardOutput(scores=torch.full((len(rollouts),), float("nan"), dtype=torch.float64))
        for name, reward in self.of.items():
            mine = [(row, i, action) for row, i, action in places if action.name == name and action.error is None]
            judged = reward.score([alone(rollouts[row], action) for row, _, action in mine])
            for (row, i, _), score, error in zip(mine, judged.scores.tolist(), judged.errors, strict=True):
                worth[row, i] = score
                output.errors[row] = output.errors[row] or error
        for row, rollout in enumerate(rollouts):
            actions = rollout.actions or ()
            if output.errors[row] is None:
                output.scores[row], output.notes[row] = self._mean(
                    actions, [worth.get((row, i), float("nan")) for i in range(len(actions))]
                )
                ends = [0, *(action.end for action in actions)]
                output.segments[row] = [
                    Segment(start=ends[i], end=action.end, reward=worth[row, i], state=action_state(actions[:i]))
                    for i, action in enumerate(actions)
                    if worth.get((row, i), float("nan")) == worth.get((row, i))
                ]
        return output

    def _mean(self, actions: Sequence[Action], worth: Sequence[float]) -> tuple[float, str]:
        """The score of one rollout and a note; NaN where no name's judge applies."""
        means = {}
        for name in self.of:
            mine = [value for action, value in zip(actions, worth, strict=True) if action.name == name]
            known = [value for value in mine if value == value]
            if known or not mine:
                means[name] = sum(known) / max(len(known), 1)
        note = ", ".join(f"{name} {mean:.2f}" for name, mean in means.items())
        return (sum(means.values()) / len(means), note) if means else (float("nan"), "")


@register("revised")
@dataclass(kw_only=True)
class Revised(Reward):
    """What `of` gives to the last answer, plus `gain` times what it is better by than the first. In the bounds of `of`, widened by that.

    Answers are the turns without a call; an answer that was never revised gains nothing. Both are segments, the first with its own worth
    and the last with this score, so that by `segment_credit` each turn is paid for what it does: the first for being right, the second
    for being right and better.

    Source: the reflection and correction of SaFeR-VLM (arXiv 2510.06871), which keeps both attempts; the weight is ours.

    Known cheats: a first answer that is wrong on purpose, so as to gain (as a mere total it pays `gain` times what was held back: credit by
    segments, or set `gain: 0`); saying the same again (gains 0); those of `of`.
    """

    of: Reward
    gain: NotNegative = 0.5
    needs = ("text", "actions")

    def __post_init__(self):
        if self.of.scope == "group":
            raise ConfigError(f"is {self.of.kind!r}, which compares whole rollouts; answers are judged one by one", "of")
        low, high = self.of.bounds
        more = self.gain * (high - low) if self.gain else 0.0
        self.bounds = (low - more, high + more)  # type: ignore[misc]

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        pairs = [_answers(rollout) for rollout in rollouts]
        first = self.of.score([alone(rollout, pair[0]) for rollout, pair in zip(rollouts, pairs, strict=True)])
        final = self.of.score([alone(rollout, pair[1]) for rollout, pair in zip(rollouts, pairs, strict=True)])
        gain = (final.scores - first.scores).to(torch.float64)
        output = RewardOutput(scores=final.scores + self.gain * gain, parts={"first": first.scores, "last": final.scores, "gain": gain})
        for row, (before, after) in enumerate(pairs):
            output.errors[row] = first.errors[row] or final.errors[row]
            score = output.scores[row].item()
            if score == score:
                output.notes[row] = f"first {first.scores[row]:.2f}, last {final.scores[row]:.2f}"
                one = [] if before is after else [Segment(start=before.start, end=before.end, reward=first.scores[row].item())]
                output.segments[row] = [*one, Segment(start=after.start, end=after.end, reward=score)]
        return output


def _answers(rollout: Rollout) -> tuple[Action, Action]:
    """The first answer and the last."""
    found = [action for action in rollout.actions or () if action.name in ANSWERS] or [last(rollout)]
    return found[0], found[-1]


def action_state(before: Sequence[Action]) -> str:
    """What an action was chosen after: the same for rollouts of a group that have called the same and got the same."""
    return " ".join(f"{action.name}{dict(action.arguments)}" for action in before)


def alone(rollout: Rollout, action: Action) -> Rollout:
    """The rollout as if that action were all of it; an answer is given after the calls before it, whose words are left out."""
    text = (rollout.text or "")[action.start : action.end]
    calls = [before for before in rollout.actions or () if before.end <= action.start and before.name not in ANSWERS]
    before = [replace(call, start=0, end=0) for call in calls if action.name in ANSWERS]
    return replace(rollout, text=text, actions=(*before, replace(action, start=0, end=len(text))), num_tokens=None, likelihood=None)


def last(rollout: Rollout) -> Action:
    """The last action; an empty answer where nothing was done."""
    return rollout.actions[-1] if rollout.actions else Action(name="answer", start=0, end=0)
