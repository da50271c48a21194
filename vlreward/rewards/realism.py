"""Does a picture pass for a real one, by a classifier of made pictures?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from vlreward.config import Count
from vlreward.errors import ConfigError, DataError
from vlreward.models.folders import frozen, pretrained, transformers_folder
from vlreward.registry import register
from vlreward.rewards.base import Reward, explain
from vlreward.rewards.objects import judged_picture
from vlreward.types import RewardOutput, Rollout


@register("realism")
@dataclass(kw_only=True)
class Realism(Reward):
    """The probability that an image classifier gives to `label`, such as 'real', for the judged picture. In [0, 1].

    Any transformers image classifier. Of a clip the middle frame is judged; `per_frame` takes all. As a monitor, give it weight 0:
    a score that moves far while the main reward rises says that pictures change in what nobody asked about.

    Source: detectors of made pictures as rewards or monitors; transformers' AutoModelForImageClassification. The licence is the
    checkpoint's own.

    Known cheats: noise and compression that such detectors go by, which a policy finds soon where it is trained against one (use it as a
    monitor, or an ensemble by `cautious_mean`, and hold one out); a detector knows the generators that it was trained on.
    """

    model: str
    """A folder with an image classifier."""
    label: str
    """The class, as the model's config calls it, that stands for real pictures."""
    size: Count = 32
    """Pictures at a time."""
    needs = ("visual",)

    def load(self, device: str) -> None:
        self._model, self._processor = load_classifier(self.model, device)
        labels = {name.casefold(): int(number) for number, name in self._model.config.id2label.items()}
        if self.label.casefold() not in labels:
            raise ConfigError(f"is {self.label!r}, but the model's classes are {', '.join(self._model.config.id2label.values())}", "label")
        self._class = labels[self.label.casefold()]

    @torch.no_grad()
    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        output = RewardOutput(scores=torch.full((len(rollouts),), float("nan"), dtype=torch.float64))
        pictures: dict[int, Any] = {}
        for row, rollout in enumerate(rollouts):
            try:
                pictures[row] = judged_picture(rollout).pil
            except DataError as error:
                output.errors[row] = explain(error)
        rows = [*pictures]
        for first in range(0, len(rows), self.size):
            chosen = rows[first : first + self.size]
            inputs = self._processor(images=[pictures[row] for row in chosen], return_tensors="pt").to(self._model.device)
            output.scores[chosen] = self._model(**inputs).logits.float().softmax(1)[:, self._class].double().cpu()
        return output


@cache
def load_classifier(model: str, device: str) -> tuple[Any, Any]:
    """Model and image processor of a transformers folder. Raises ConfigError."""
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    folder = transformers_folder(model)
    return frozen(AutoModelForImageClassification, folder, device), pretrained(AutoImageProcessor, folder)
