"""What all adapters share: other trainers' rows as rollouts, and our tables as their numbers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vlreward.config import load
from vlreward.data.media import Clip, Picture, Visual
from vlreward.errors import ConfigError
from vlreward.rewards.base import Reward
from vlreward.rewards.composite import Composite, Term
from vlreward.types import RewardTable, Rollout, Sample

Rewards = Reward | Composite | str | Path | Mapping[str, Any] | Sequence[Any]
"""What stands for rewards in every adapter."""
APART = {
    "id", "target", "prompt", "completion", "messages", "image", "images", "video", "videos", "audios", "tools", "prompt_id", "request_id",
    "finish_reason", "is_truncated", "rollout_infos", "response_token_ids", "trajectory_inputs",
}  # fmt: skip
"""Columns that are no part of a target: media, what TRL reads itself, and what ms-swift says of the single rollout."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A YAML file of rewards alone."""

    rewards: Composite


def composite(rewards: Rewards) -> Composite:
    """Whatever stands for rewards, as a composite. Raises ConfigError."""
    if isinstance(rewards, Composite):
        return rewards
    if isinstance(rewards, Reward):
        return Composite([Term(name=rewards.kind, weight=1.0, reward=rewards)])
    if isinstance(rewards, Path) or (isinstance(rewards, str) and rewards.endswith((".yaml", ".yml"))):
        return load(rewards, (), File)[0].rewards
    return Composite.from_tree([rewards] if isinstance(rewards, str | Mapping) else list(rewards))


def group_wise(terms: Composite) -> str:
    """The kind of a reward that judges whole groups, '' where there is none."""
    return next((reward.kind for reward in terms.rewards if reward.scope == "group"), "")


def refuse_groups(terms: Composite, trainer: str) -> Composite:
    """The same, unless one of them judges whole groups, which the trainer does not hand over. Raises ConfigError."""
    if kind := group_wise(terms):
        raise ConfigError(f"{kind!r} judges whole groups, and {trainer} does not tell a reward which responses belong together")
    return terms


def row_of(columns: Mapping[str, Any], i: int) -> dict[str, Any]:
    """Row i of those columns that are lists."""
    return {name: column[i] for name, column in columns.items() if isinstance(column, list | tuple)}


def attempt(
    prompt: str, target: Mapping[str, Any], text: str | None, *, visuals: Sequence[Visual] = (), made: Visual | None = None,
    num_tokens: int | None = None, id: Any = None,
) -> Rollout:  # fmt: skip
    """One rollout; without an id, samples with equal prompt and target share theirs. Its group is set by `grouped`."""
    name = str(id) if id is not None else hashlib.sha256(repr((prompt, target)).encode()).hexdigest()[:16]
    return Rollout(
        sample=Sample(id=name, prompt=prompt, visuals=tuple(visuals), target=target), text=text, made=made, num_tokens=num_tokens
    )


def grouped(rollouts: Sequence[Rollout], keys: Sequence[Any] | None = None) -> list[Rollout]:
    """With groups: rows with the same key, or else rows one behind the other with the same sample id."""
    numbers: dict[Any, int] = {}
    found, last = [], None
    for i, rollout in enumerate(rollouts):
        if keys is not None:
            number = numbers.setdefault(keys[i], len(numbers))
        else:
            same = last is not None and last.sample.id == rollout.sample.id
            number = last.group if last is not None and same else i
        last = replace(rollout, group=number)
        found.append(last)
    return found


def target_of(row: Mapping[str, Any], rename: Mapping[str, str]) -> dict[str, Any]:
    """A row's columns as a target, `rename` saying which is to be called what; a column `target` is taken as it is, and goes first."""
    own = {rename.get(name, name): value for name, value in row.items() if name not in APART and value is not None}
    return own | (dict(row["target"]) if isinstance(row.get("target"), Mapping) else {})


def truth(value: Any) -> dict[str, Any]:
    """A ground truth as a target: itself if it is a mapping or the JSON of one, else the answer."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return {"answer": value}
    return dict(value) if isinstance(value, Mapping) else {} if value is None else {"answer": value}


def words(messages: str | Sequence[Mapping[str, Any]], role: str) -> str:
    """The text of the last message of that role; a plain text is itself."""
    if isinstance(messages, str):
        return messages
    content = next((message["content"] for message in reversed(messages) if message["role"] == role), None) or ""
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)


def visuals_of(row: Mapping[str, Any], prompt: Any = None) -> list[Visual]:
    """A row's pictures and clips from its columns, else the pictures inside of the prompt's messages."""
    pictures = [row["image"]] if row.get("image") is not None else list(row.get("images") or ())
    clips = list(row.get("videos") or ())
    if not pictures and not clips and isinstance(prompt, list | tuple):
        parts = [part for message in prompt if not isinstance(message["content"], str) for part in message["content"]]
        pictures = [part["image"] for part in parts if part.get("type") == "image" and part.get("image") is not None]
    return [*map(picture, pictures), *map(clip, clips)]


def picture(value: Any) -> Picture:
    """A picture from a path, bytes, PIL, array or tensor, or the {bytes, path} of Hugging Face datasets."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    return Picture(value)


def clip(value: Any) -> Clip:
    """A clip from a path, a tensor [F,3,H,W], or a list of pictures."""
    return Clip(value if isinstance(value, str | Path | torch.Tensor) else [picture(frame) for frame in value])


def numbers(score_B: torch.Tensor) -> list[float | None]:
    """Scores as plain numbers, None for NaN."""
    return [None if math.isnan(value) else value for value in score_B.tolist()]


def scores_of(total: str, table: RewardTable, i: int, missing: float) -> dict[str, float]:
    """Row i as numbers: the total under that name, each term under its own if there are several, and whether a judge broke."""
    named = {total: table.total[i].item()}
    if len(table.names) > 1:
        named |= dict(zip(table.names, table.scores[i].tolist(), strict=True))
    return {name: missing if math.isnan(value) else value for name, value in named.items()} | {"broken": float(table.broken[i])}
