"""Which prompts a run asks, and when."""

from __future__ import annotations

import random
from collections.abc import Iterator

from torch.utils.data import Sampler


class PromptSampler(Sampler[int]):
    """Rows for a whole run: `chunks` times `prompts` different ones, each `size` times in a row, each such chunk `repeats` times.

    Pass after pass over the data, each in an order that follows from the seed and the pass; what is left over at a pass's end waits
    for a later one.
    """

    def __init__(self, num_rows: int, prompts: int, size: int, repeats: int, chunks: int, seed: int):
        assert num_rows >= prompts, f"{num_rows} samples are fewer than one step's {prompts}"
        self.num_rows, self.prompts, self.size, self.repeats, self.chunks, self.seed = num_rows, prompts, size, repeats, chunks, seed

    def __len__(self) -> int:
        return self.chunks * self.prompts * self.size * self.repeats

    def __iter__(self) -> Iterator[int]:
        for chunk in range(self.chunks):
            turn, place = divmod(chunk, self.num_rows // self.prompts)
            order = list(range(self.num_rows))
            random.Random(f"{self.seed}/data/{turn}").shuffle(order)
            chosen = order[place * self.prompts : (place + 1) * self.prompts]
            yield from [row for row in chosen for _ in range(self.size)] * self.repeats
