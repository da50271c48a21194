"""Does the answer look where the group is unsure?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components

from vlreward.config import Fraction, NotNegative
from vlreward.registry import register
from vlreward.rewards.answers import final_answer
from vlreward.rewards.base import by_group
from vlreward.rewards.frames import Framed
from vlreward.rewards.overlap import pairwise_iou, valid
from vlreward.rewards.parsing import read_boxes
from vlreward.types import RewardOutput, Rollout

MAX_BOXES = 32
"""Boxes or regions read from one text; every further region counts as surplus."""
LOOK = re.compile(r"<look>((?:(?!<look>).)*?)</look>", re.DOTALL)


@register("uncertain_look")
@dataclass(kw_only=True)
class UncertainLook(Framed):
    """How well the regions of `<look>...</look>` cover what the group's other answers disagree on. In [0, 1].

    The boxes of the other rollouts' answers are put together where they overlap by more than `same`. An object that a share p of them
    lists, with boxes that vary by s^2 (mean over the four coordinates, relative to the area), is uncertain by u = p (1 - p) + s^2. Regions
    and objects are matched one to one: the score is the sum of u * IoU over the sum of all u, times objects / regions where there are
    more regions, minus `area` times the share of the picture that the regions cover, and not below 0. NaN where the others agree on
    everything, or there are fewer than two of them. Needs the picture or `target.size`.

    Source: the variance-guided looking reward of DIP-R1, arXiv 2505.23179; its formula is not public, this parametrisation is ours.

    Known cheats: looking everywhere (one region covers one object only, a large one has a low IoU and pays for its area, many are
    divided); listing odd boxes so as to be unsure about them (a rollout's own answer does not count for it); a whole group that guesses
    wildly so as to have something to look at (not defended here: a reward on the answers must cost more).
    """

    sized = True
    same: Fraction = 0.5
    area: NotNegative = 0.1
    needs = ("text",)
    scope = "group"

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        scales, sizes, errors = self.scales(rollouts)
        answers = [final_answer(rollout.text or "") for rollout in rollouts]
        boxes, _ = self._boxes([answer[0] if answer else "" for answer in answers], scales, sizes)
        looks, written = self._boxes([look_region(rollout.text or "") for rollout in rollouts], scales, sizes)
        scores = np.full(len(rollouts), np.nan)
        notes = [""] * len(rollouts)
        for group in by_group(rollouts):
            group = [row for row in group if errors[row] is None]
            for row, (centres, doubts) in zip(group, self.doubts([boxes[row] for row in group]), strict=True):
                if doubts.sum() > 0:
                    scores[row] = self.grade(looks[row], int(written[row]), centres, doubts, sizes[row])
                    notes[row] = f"{written[row]} regions for {np.count_nonzero(doubts)} uncertain objects"
        return RewardOutput(scores=torch.from_numpy(scores), notes=notes, errors=errors)

    def doubts(self, answers: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each of a group's answers [A,4]: the boxes [C,4] that the others list, on average, and how uncertain [C] each is."""
        boxes = np.concatenate([*answers, np.zeros((0, 4))])
        owner = np.repeat(np.arange(len(answers)), [len(answer) for answer in answers])
        alike = pairwise_iou(boxes, boxes) > self.same
        found = []
        for own in range(len(answers)):
            others = np.flatnonzero(owner != own)
            if len(answers) < 3 or not len(others):
                found.append((np.zeros((0, 4)), np.zeros(0)))
                continue
            num_objects, place = connected_components(alike[np.ix_(others, others)], directed=False)
            sizes = np.bincount(place)[:, None]
            sums = [np.stack([np.bincount(place, column) for column in values.T], 1) for values in (boxes[others], boxes[others] ** 2)]
            centres = sums[0] / sizes
            variance = np.maximum(sums[1] / sizes - centres**2, 0).mean(1)
            area = (centres[:, 2] - centres[:, 0]) * (centres[:, 3] - centres[:, 1])
            listed = np.zeros((num_objects, len(answers)))
            listed[place, owner[others]] = 1
            share = listed.sum(1) / (len(answers) - 1)
            spread = np.where(variance > 1e-9 * area, np.minimum(variance / area, 1), 0)
            found.append((centres, share * (1 - share) + spread))
        return found

    def grade(self, looks: np.ndarray, written: int, boxes: np.ndarray, doubts: np.ndarray, size: np.ndarray) -> float:
        """The score of regions [L,4], of `written` that were listed, for boxes [C,4] with doubts [C] in a picture of (width, height)."""
        gain = doubts * pairwise_iou(looks, boxes)
        found = float(gain[linear_sum_assignment(gain, maximize=True)].sum() / doubts.sum())
        sides = looks[:, 2:] - looks[:, :2]
        covered = min(1.0, float((sides[:, 0] * sides[:, 1]).sum() / (size[0] * size[1])))
        return max(0.0, found * min(1.0, len(boxes) / max(written, 1)) - self.area * covered)

    def _boxes(self, texts: list[str], scales: np.ndarray, sizes: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Per text its valid boxes in pixels, and [B] how many it lists"""
        numbers, counts = read_boxes(texts)
        found = []
        for boxes, scale, size in zip(np.split(numbers, np.cumsum(counts)[:-1]), scales, sizes, strict=True):
            pixels = np.clip(boxes[:MAX_BOXES] * np.tile(scale, 2), 0, np.tile(size, 2))
            found.append(pixels[valid(pixels)])
        return found, counts


def look_region(text: str) -> str:
    """What stands in the last complete `<look>...</look>`; empty without one."""
    found = LOOK.findall(text)
    return found[-1] if found else ""
