"""What a run learns from, and when: its stages one after the other, and the order of the samples in each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch.utils.data import Sampler

from vlreward.config import Positive
from vlreward.data.source import Source
from vlreward.errors import ConfigError, DataError
from vlreward.rewards.composite import Composite
from vlreward.types import Sample
from vlreward.vlm.sampler import InTurn, PromptSampler, SortedSampler, WeightedSampler

if TYPE_CHECKING:
    from vlreward.vlm.config import TrainVLM


@dataclass(frozen=True, kw_only=True)
class Order:
    """The `order:` block: which samples come first, or more often, by the number in `target.<by>`."""

    by: str
    how: Literal["rising", "falling", "weighted"] = "rising"
    """From the lowest number to the highest over all the steps, or the other way; or as often as the number is large, all the time."""

    def numbers(self, samples: Sequence[Sample]) -> list[float]:
        """The samples' numbers. Raises DataError for a sample that has none, or none that says how often it comes."""
        out = []
        for sample in samples:
            found = sample.target.get(self.by)
            try:
                number = math.nan if isinstance(found, bool) else float(found)  # type: ignore[arg-type]
            except (TypeError, ValueError, OverflowError):
                number = math.nan
            if not math.isfinite(number) or (self.how == "weighted" and number < 0):
                wanted = "a number of at least 0" if self.how == "weighted" else "a number"
                raise DataError(f"{sample.id}: target.{self.by} is {found!r}, expected {wanted} to order by")
            out.append(number)
        return out


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One entry of `stages:`, which follow each other within one run. What a stage does not say is as the run says it."""

    share: Positive = 1.0
    """Of the steps, in proportion to the other stages' shares."""
    data: Source | None = None
    rewards: Composite | None = None
    """Held-out samples are judged by the run's own in any stage."""
    order: Order | None = None


@dataclass(frozen=True, kw_only=True)
class Leg:
    """A stage as the trainer walks it: rows of the run's samples, and what judges the answers to them."""

    rows: range
    rewards: Composite
    share: float = 1.0
    order: Order | None = None
    numbers: Sequence[float] = ()
    """Of each row, where they have an order."""

    def sampler(self, prompts: int, size: int, repeats: int, chunks: int, seed: int | str) -> PromptSampler:
        """Places among the leg's rows for `chunks` batches."""
        shape = (len(self.rows), prompts, size, repeats, chunks, seed)
        if self.order is None:
            return PromptSampler(*shape)
        if self.order.how == "weighted":
            return WeightedSampler(*shape, numbers=self.numbers)
        return SortedSampler(*shape, numbers=[-number for number in self.numbers] if self.order.how == "falling" else self.numbers)


def course(config: TrainVLM) -> tuple[list[Sample], list[Leg]]:
    """All samples of a run and the legs that take them in turn. Raises ConfigError and DataError for data that cannot be learned from."""
    samples: list[Sample] = []
    legs: list[Leg] = []
    for i, stage in enumerate(config.stages or (Stage(),)):
        source = stage.data or config.data
        key = f"stages.{i}.data" if stage.data else "data"
        assert source is not None, "the configuration was checked for a stage without data"
        found, rewards, order = source.samples(), stage.rewards or config.rewards, stage.order or config.order
        rewards.check(found, key)
        if len(found) < config.group.prompts:
            raise ConfigError(f"has {len(found)} samples, but a step takes group.prompts = {config.group.prompts} of them", key)
        numbers = order.numbers(found) if order else []
        if order and order.how == "weighted" and sum(number > 0 for number in numbers) < config.group.prompts:
            raise ConfigError(f"target.{order.by} is above 0 in fewer samples than group.prompts = {config.group.prompts}", key)
        rows = range(len(samples), len(samples) + len(found))
        legs.append(Leg(rows=rows, rewards=rewards, share=stage.share, order=order, numbers=numbers))
        samples += found
    if config.guide:
        config.guide.check(samples)
    return samples, legs


def ends(shares: Sequence[float], batches: int) -> list[int]:
    """The number of batches after which each leg ends; the last ends with the run."""
    return [round(batches * sum(shares[: i + 1]) / sum(shares)) for i in range(len(shares))]


def one_stream(legs: Sequence[Leg], batches: int, prompts: int, size: int, repeats: int, seed: int) -> Sampler[int]:
    """Rows for a whole run, leg after leg. Raises ConfigError for a stage that is too short for a batch."""
    last = ends([leg.share for leg in legs], batches)
    parts = []
    for i, (leg, start, end) in enumerate(zip(legs, [0, *last], last)):
        if start == end:
            raise ConfigError(f"is {leg.share:g}, which of the run's {batches} batches is not one; add steps", f"stages.{i}.share")
        parts.append((leg.rows.start, leg.sampler(prompts, size, repeats, end - start, f"{seed}/{i}" if i else seed)))
    return InTurn(parts)
