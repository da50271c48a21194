"""Rewards in Flow-Factory (github.com/X-GenGroup/Flow-Factory at a0b2bc5)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from vlreward.adapters.rows import Rewards, attempt, clip, composite, group_wise, grouped, picture, scores_of
from vlreward.errors import ConfigError


def flow_factory_reward(rewards: Rewards, targets: Mapping[str, Mapping[str, Any]] | None = None, missing: float = 0.0) -> type:
    """A reward model class, named in Flow-Factory's `reward_model: my_file.MyReward`: the weighted total of each picture or clip.

    Group-wise if a reward judges whole groups, else point-wise. Flow-Factory tells a reward the prompt alone; whatever else of a target
    the rewards need comes from `targets`, by prompt. Its workers may be several threads, which wait for each other here.
    """
    try:
        from flow_factory.rewards import abc  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigError("Flow-Factory is not installed here") from error
    terms, known, lock = composite(rewards), targets or {}, threading.Lock()
    base: Any = abc.GroupwiseRewardModel if group_wise(terms) else abc.PointwiseRewardModel

    class Model(base):
        required_fields = ("prompt", "image", "video")

        def __call__(
            self, prompt: list[str], image: Any = None, video: Any = None, audio: Any = None, condition_images: Any = None,
            condition_videos: Any = None,
        ) -> Any:  # fmt: skip
            made = [picture(one) for one in image] if image is not None else [clip(frames) for frames in video]
            rollouts = [attempt(said, known.get(said, {}), None, made=one) for said, one in zip(prompt, made, strict=True)]
            with lock:
                table = terms(grouped(rollouts, prompt), str(self.device))
            rows = [scores_of("total", table, i, missing) for i in range(len(rollouts))]
            extra = {name: [row[name] for row in rows] for name in rows[0] if name != "total"}
            return abc.RewardModelOutput(rewards=[row["total"] for row in rows], extra_info=extra)

    Model.__name__ = "_".join(terms.names)
    return Model
