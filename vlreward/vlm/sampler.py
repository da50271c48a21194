"""Which prompts a run asks, and when."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler


class PromptSampler(Sampler[int]):
    """Rows for a whole run: `chunks` times `prompts` different ones, each `size` times in a row, each such chunk `repeats` times.

    Pass after pass over the data, each in an order that follows from the seed and the pass; what is left over at a pass's end waits
    for a later one.
    """

    def __init__(self, num_rows: int, prompts: int, size: int, repeats: int, chunks: int, seed: int | str):
        assert num_rows >= prompts, f"{num_rows} samples are fewer than one step's {prompts}"
        self.num_rows, self.prompts, self.size, self.repeats, self.chunks, self.seed = num_rows, prompts, size, repeats, chunks, seed

    def __len__(self) -> int:
        return self.chunks * self.prompts * self.size * self.repeats

    def __iter__(self) -> Iterator[int]:
        for chunk in range(self.chunks):
            yield from [row for row in self.chosen(chunk) for _ in range(self.size)] * self.repeats

    def chosen(self, chunk: int) -> list[int]:
        """The different rows of one chunk."""
        turn, place = divmod(chunk, self.num_rows // self.prompts)
        return self._shuffled(turn)[place * self.prompts : (place + 1) * self.prompts]

    def _shuffled(self, turn: int) -> list[int]:
        order = list(range(self.num_rows))
        random.Random(f"{self.seed}/data/{turn}").shuffle(order)
        return order


class SortedSampler(PromptSampler):
    """From the rows with the lowest number to those with the highest over all the chunks, whether they are one pass, less or more.

    Each chunk is drawn from a window of the sorted rows; with as many rows as draws the windows are neighbours and hold one chunk each.
    """

    def __init__(self, *shape, numbers: Sequence[float]):
        super().__init__(*shape)
        self.order = sorted(self._shuffled(0), key=lambda row: numbers[row])

    def chosen(self, chunk: int) -> list[int]:
        start, end = (self.num_rows * place // self.chunks for place in (chunk, chunk + 1))
        missing = max(0, self.prompts - (end - start))
        start = min(max(0, start - missing // 2), self.num_rows - self.prompts)
        return random.Random(f"{self.seed}/window/{chunk}").sample(self.order[start : max(end, start + self.prompts)], self.prompts)


class WeightedSampler(PromptSampler):
    """Rows drawn with a probability in proportion to their number, different ones in a chunk; a row with 0 never comes."""

    def __init__(self, *shape, numbers: Sequence[float]):
        super().__init__(*shape)
        self.numbers = numbers

    def chosen(self, chunk: int) -> list[int]:
        """By exponential waiting times, the shortest first: Efraimidis and Spirakis, Information Processing Letters 97 (2006)."""
        draw = random.Random(f"{self.seed}/weighted/{chunk}")
        waits = [draw.expovariate(number) if number > 0 else float("inf") for number in self.numbers]
        return sorted(range(self.num_rows), key=lambda row: waits[row])[: self.prompts]


class InTurn(Sampler[int]):
    """One sampler after the other, each with the row that its own row 0 is."""

    def __init__(self, parts: Sequence[tuple[int, PromptSampler]]):
        self.parts = parts

    def __len__(self) -> int:
        return sum(len(sampler) for _, sampler in self.parts)

    def __iter__(self) -> Iterator[int]:
        for first, sampler in self.parts:
            yield from (first + row for row in sampler)
