"""Rewards for what a policy's calls of tools found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vlreward.config import Count
from vlreward.errors import DataError
from vlreward.registry import register
from vlreward.rewards.base import Reward
from vlreward.rewards.boxes import check_boxes
from vlreward.rewards.overlap import Graded, pairwise_iou
from vlreward.rewards.spans import checked_spans, span_iou
from vlreward.types import Rollout


@register("crop_iou")
@dataclass(kw_only=True)
class CropIoU(Graded):
    """Mean over a rollout's crops of the IoU of the region asked for with the nearest box of `target.evidence`. In [0, 1].

    Evidence is boxes in pixels of the picture; crops of crops count where they lie in that. `target.evidence_of` says which picture: a
    place among the sample's visuals (0 by default) or the id of a page. A crop of another one, one that failed, and no crop at all are 0.

    Source: crops are rewarded by their overlap with annotated evidence in ARM-Thinker (arXiv 2512.05111) and UniDoc-RL
    (arXiv 2604.14967); form and floor are ours.

    Known cheats: many crops as a hedge (a mean); one of the whole picture (worth the evidence's share of it; see `floor` and `form`);
    the margin that a tool adds (the region asked for counts, not what was shown).
    """

    key: str = "evidence"
    """The target's boxes go by this name."""
    needs = ("actions", "target.evidence")

    def __post_init__(self):
        super().__post_init__()
        self.needs = ("actions", f"target.{self.key}")  # type: ignore[misc]

    def one(self, rollout: Rollout) -> tuple[float, str]:
        target = rollout.sample.target
        check_boxes(target[self.key], name=self.key)
        crops = [action for action in rollout.actions or () if "box" in action.facts or (action.error and action.name == "crop")]
        wanted = np.array(target[self.key], dtype=np.float64)
        values = []
        for crop in crops:
            right = crop.facts.get("source") == target.get("evidence_of", 0)
            values.append(float(pairwise_iou(np.array([crop.facts["box"]]), wanted).max()) if right else 0.0)
        worth = self.worth(np.array(values or [0.0]))
        return float(worth.mean()), f"IoU {', '.join(f'{value:.2f}' for value in values)}" if values else "no crop"


@register("zoom_iou")
@dataclass(kw_only=True)
class ZoomIoU(Graded):
    """Mean over a rollout's zooms into a clip of the temporal IoU of the seconds shown with `target.evidence_spans`. In [0, 1].

    A zoom that failed, and no zoom at all, are 0.

    Source: LOVE-R1 (arXiv 2509.24786) rewards each zoom on a video by itself; the measure is that of `temporal_iou`.

    Known cheats: zooming in on the whole clip (worth the event's share of it); many zooms as a hedge (a mean).
    """

    needs = ("actions", "target.evidence_spans")

    def one(self, rollout: Rollout) -> tuple[float, str]:
        wanted = checked_spans(rollout.sample.target["evidence_spans"], "evidence_spans")
        zooms = [action for action in rollout.actions or () if "span" in action.facts or (action.error and action.name == "zoom_clip")]
        values = [span_iou([zoom.facts["span"]], wanted) if "span" in zoom.facts else 0.0 for zoom in zooms]
        worth = self.worth(np.array(values or [0.0]))
        return float(worth.mean()), f"IoU {', '.join(f'{value:.2f}' for value in values)}" if values else "no zoom"


@register("pages_found")
@dataclass(kw_only=True)
class PagesFound(Reward):
    """How well the pages that a rollout's calls found, in the order in which they first came, match `target.pages`. In [0, 1].

    `target.pages` lists ids, or maps them to gains. `ndcg`: discounted gain over its largest value; `recall`: share of the pages found.
    For one call alone it is a name of `each_action` (`retrieve: pages_found`, `open_page: pages_found`).

    Source: the retrieval and selection rewards of UniDoc-RL (arXiv 2604.14967) and VimRAG, by the usual nDCG.

    Known cheats: many queries so that all pages come at last (by `ndcg` late ones count little; judge calls by `each_action`, and bound
    them by `turns.calls`); the same page again (counts where it came first).
    """

    measure: Literal["ndcg", "recall"] = "ndcg"
    needs = ("actions", "target.pages")

    def one(self, rollout: Rollout) -> tuple[float, str]:
        gains = _gains(rollout.sample.target["pages"])
        found = list(dict.fromkeys(page for action in rollout.actions or () for page in action.facts.get("pages", ())))
        right = [page for page in found if page in gains]
        note = f"{len(right)} of {len(gains)} pages among {len(found)}"
        if self.measure == "recall":
            return len(right) / len(gains), note
        ideal = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(sorted(gains.values(), reverse=True)))
        return sum(gains.get(page, 0.0) / math.log2(rank + 2) for rank, page in enumerate(found)) / ideal, note


@register("tool_use")
@dataclass(kw_only=True)
class ToolUse(Reward):
    """Share of a rollout's calls that worked; 0 without a call. In [0, 1].

    Calls beyond `most` count as failed.

    Source: the reward for calls that succeed, which ARM-Thinker (arXiv 2512.05111) gives before it turns to accuracy; `most` is ours.

    Known cheats: one idle call (1 by design: keep its weight small, or put it into a `gate` of the answer); calls without end (`most`).
    """

    most: Count = 4
    needs = ("actions",)

    def one(self, rollout: Rollout) -> tuple[float, str]:
        calls = [action for action in rollout.actions or () if action.name not in ("answer", "revision")]
        worked = sum(action.error is None for action in calls[: self.most])
        return worked / max(len(calls), 1), f"{worked} of {len(calls)} calls"


def _gains(pages: Any) -> Mapping[str, float]:
    gains = pages if isinstance(pages, Mapping) else dict.fromkeys(map(str, pages), 1.0) if isinstance(pages, list | tuple) else {}
    if not gains or not all(isinstance(gain, int | float) and 0 < gain < math.inf for gain in gains.values()):
        raise DataError(f"target.pages is {pages!r}, expected a list of ids or a mapping of ids to gains above 0")
    return {str(page): float(gain) for page, gain in gains.items()}
