"""What rewards share whose answer is a source, a script or an SVG, and is judged by what it draws."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from vlreward.data.media import Picture
from vlreward.errors import DataError, RewardError
from vlreward.rewards.answers import final_answer
from vlreward.rewards.base import Reward
from vlreward.rewards.picture_similarity import perceptual, structural
from vlreward.sandbox.pool import Drawing, Kind, shared
from vlreward.types import RewardOutput, Rollout

FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)


def read_source(text: str) -> str:
    """The last fenced block of the last `<answer>`, else of the text; without a fence all of it."""
    found = final_answer(text)
    body = found[0] if found else text
    blocks = FENCE.findall(body)
    return (blocks[-1] if blocks else body).strip()


@dataclass(kw_only=True)
class Drawn(Reward):
    """Draws the answers and references of a batch together, each distinct source once."""

    language: ClassVar[Kind] = "python"
    reference: ClassVar[str] = "code"
    """Name of the target that holds the wanted source."""
    part_names: ClassVar[tuple[str, ...]] = ()
    waits = True

    def load(self, device: str) -> None:
        shared().start()

    def stop(self) -> None:
        shared().stop()

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        answers = [read_source(rollout.text or "") for rollout in rollouts]
        wanted = [rollout.sample.target.get(self.reference) for rollout in rollouts]
        sources = list(dict.fromkeys([*answers, *(source for source in wanted if isinstance(source, str))]))
        drawings = dict(zip(sources, shared().run(sources, self.language), strict=True))
        rows, notes, errors = [], [], []
        for rollout, answer, reference in zip(rollouts, answers, wanted, strict=True):
            drawing, row, error = drawings[answer], (float("nan"),), None
            try:
                target = None if reference is None else self._wanted(reference, drawings)
                if drawing.outcome == "broken":
                    raise RewardError(f"the sandbox failed: {drawing.message}")
                if self.applies(rollout, target):
                    row = self.grade(rollout, drawing, target) if drawing.drawn else (0.0,)
            except (DataError, RewardError) as failure:
                error = str(failure)
            rows.append(row if len(row) > 1 else row * (1 + len(self.part_names)))
            notes.append("" if drawing.drawn else f"{drawing.outcome}: {drawing.message or 'an empty page'}")
            errors.append(error)
        columns = torch.tensor(rows, dtype=torch.float64).T
        return RewardOutput(scores=columns[0], parts=dict(zip(self.part_names, columns[1:], strict=True)), notes=notes, errors=errors)

    def applies(self, rollout: Rollout, wanted: Drawing | None) -> bool:
        """Whether there is something to judge the answer by."""
        return True

    def grade(self, rollout: Rollout, answer: Drawing, wanted: Drawing | None) -> tuple[float, ...]:
        """Score and parts of an answer that drew something; `wanted` is what the target's source drew, if any. Raises DataError."""
        raise NotImplementedError(f"{type(self).__name__} must define grade")

    def _wanted(self, source: Any, drawings: Mapping[str, Drawing]) -> Drawing:
        if not isinstance(source, str) or not source.strip():
            raise DataError(f"target.{self.reference} is {source!r}, expected a source that draws a picture")
        drawing = drawings[source]
        if drawing.outcome == "broken":
            raise RewardError(f"the sandbox failed: {drawing.message}")
        if not drawing.drawn:
            raise DataError(f"target.{self.reference} draws nothing ({drawing.message or 'an empty page'})")
        return drawing


@dataclass(kw_only=True)
class Likeness(Drawn):
    """Likeness of what the answer draws to what the target's source draws, else to the sample's picture; NaN without either."""

    encoder: str = ""
    """A CLIP model as in `clip_score`, whose features are compared instead of pixels."""
    needs = ("text",)

    def load(self, device: str) -> None:
        super().load(device)
        self._device = device

    def applies(self, rollout: Rollout, wanted: Drawing | None) -> bool:
        return wanted is not None or rollout.visual is not None

    def grade(self, rollout: Rollout, answer: Drawing, wanted: Drawing | None) -> tuple[float, ...]:
        visual = Picture(wanted.pixels) if wanted else rollout.visual
        if not isinstance(visual, Picture):
            raise DataError("the sample holds a clip, expected a picture")
        if self.encoder:
            return (perceptual(visual, Picture(answer.pixels), self.encoder, self._device),)
        return (structural(visual, Picture(answer.pixels)),)
