"""Answers whose first words are given, for part of each group: a way to show a policy what it would not write by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.generation.logits_process import LogitsProcessor

from vlreward.config import Fraction
from vlreward.errors import ConfigError, DataError
from vlreward.types import Sample


@dataclass(frozen=True, kw_only=True)
class Guide:
    """The `guide:` block: a share of each group's answers begins with the words for its sample's label; the others are free.

    The given words are part of the answer: they are judged and learned from like any others, so that a label's words become likely
    where their answers beat the free ones. A sample without the label is not guided.

    Source: the hybrid groups of DualMindVLM, arXiv 2511.16670 (half of 8 answers begin with `Short Thinking:` or `Long Thinking:`).
    Whether its loss leaves the given words out is not public; here they count, since nothing else would teach them to the free half.
    """

    starts: Mapping[str, str]
    """Label -> the words that a guided answer begins with."""
    key: str = "thinking"
    """The label stands in `target.<key>`."""
    share: Fraction = 0.5

    def __post_init__(self):
        if not self.starts or not all(self.starts.values()):
            raise ConfigError(f"is {dict(self.starts)!r}, expected words for each label", "starts")

    def check(self, samples: Sequence[Sample]) -> None:
        """Raises ConfigError where no sample has a label, and DataError for a label without words."""
        labels = {sample.id: sample.target.get(self.key) for sample in samples}
        if all(label is None for label in labels.values()):
            raise ConfigError(f"no sample has target.{self.key}; the sources 'by_answer_length' and 'labelled' set it", "guide.key")
        for name, label in labels.items():
            if label is not None and label not in self.starts:
                raise DataError(f"{name}: target.{self.key} is {label!r}, but `guide.starts` has {', '.join(self.starts)}")

    def given(self, samples: Sequence[Sample], size: int, tokenizer: Any) -> list[list[int]]:
        """The tokens that each answer begins with, empty for a free one; `samples` names `size` answers in a row for each sample."""
        out = []
        for i, sample in enumerate(samples):
            label = sample.target.get(self.key)
            guided = i % size < round(self.share * size)
            out.append(tokenizer.encode(self.starts[label], add_special_tokens=False) if guided and label is not None else [])
        return out


class GivenStart(LogitsProcessor):
    """Lets each row write nothing but its given tokens until they are written."""

    def __init__(self, given: Sequence[Sequence[int]]):
        self.given, self.width = given, None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.width = input_ids.shape[1] if self.width is None else self.width
        written = input_ids.shape[1] - self.width
        rows = [row for row, tokens in enumerate(self.given) if len(tokens) > written]
        if rows:
            scores = scores.clone()
            scores[rows] = -float("inf")
            scores[rows, [self.given[row][written] for row in rows]] = 0.0
        return scores
