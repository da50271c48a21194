"""A library of pages of four lines, found by their titles, and questions about a line of a page: what a policy looks up in turns."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from PIL import Image

from vlreward.config import Count
from vlreward.data.media import Picture
from vlreward.data.source import Source
from vlreward.registry import register
from vlreward.tiny.plates import CELL, ROOM, Plate, plate
from vlreward.types import Sample

PLACES = ("amber", "birch", "cedar", "dune", "ember", "fern", "grove", "heath", "iris", "jade", "lake", "moss")
PAPERS = ("atlas", "bill", "card", "diary", "essay", "form", "guide", "index", "journal", "letter", "menu", "note")
"""A title is one of each, and each pair is one page."""
LINES = ("first", "second", "third", "fourth")
KEPT = 4
"""Of so many pages one is asked about in evaluation only."""


@dataclass(frozen=True)
class Page:
    """A page of the library; its title's words, joined, are its id."""

    title: tuple[str, str]
    lines: tuple[Plate, ...]

    @property
    def id(self) -> str:
        return "-".join(self.title)

    def picture(self) -> Image.Image:
        """The lines under each other as RGB, 96 x 96 pixels."""
        image = Image.new("RGB", (ROOM * CELL, len(self.lines) * CELL), "white")
        for i, line in enumerate(self.lines):
            image.paste(line.picture(), (0, i * CELL))
        return image

    def box(self, line: int) -> list[int]:
        """xyxy in pixels"""
        return [0, line * CELL, ROOM * CELL, (line + 1) * CELL]


@cache
def library(seed: int = 0) -> tuple[Page, ...]:
    """All pages, in the order of their titles; another seed writes other lines on them."""
    titles = [(place, paper) for place in PLACES for paper in PAPERS]
    return tuple(
        Page(title, tuple(plate(random.Random(f"pages/{seed}/{'-'.join(title)}/{i}")) for i in range(len(LINES)))) for title in titles
    )


def kept(page: Page) -> bool:
    """Whether the page is asked about in evaluation only; every word of a title is on others too."""
    return (PLACES.index(page.title[0]) + PAPERS.index(page.title[1])) % KEPT == 0


def lookup(page: Page, line: int) -> Sample:
    """What stands in a line. target: answer, pages (the id), evidence (the line's box in pixels of the page evidence_of)."""
    target = {"answer": page.lines[line].text, "pages": [page.id], "evidence": [page.box(line)], "evidence_of": page.id}
    prompt = f"What is the {LINES[line]} line of the {' '.join(page.title)}?"
    return Sample(id=f"lookup-{page.id}-{line + 1}", prompt=prompt, target=target)


@register("tiny_pages")
@dataclass(kw_only=True)
class TinyPages(Source):
    """The pages of the tiny world's library, for `retrieve` and `open_page`: words are the title, the picture shows the lines."""

    seed: int = 0

    def __iter__(self) -> Iterator[Sample]:
        for page in library(self.seed):
            yield Sample(id=page.id, prompt=" ".join(page.title), visuals=(Picture(page.picture()),))


@register("tiny_lookups")
@dataclass(kw_only=True)
class TinyLookups(Source):
    """Questions about lines of that library's pages, without a picture."""

    count: Count
    seed: int = 0
    """The library's, which shuffles the questions too."""
    holdout: bool = False
    """Ask about the pages that are kept for evaluation."""

    def __iter__(self) -> Iterator[Sample]:
        asked = [lookup(page, line) for page in library(self.seed) if kept(page) == self.holdout for line in range(len(LINES))]
        random.Random(f"lookups/{self.seed}").shuffle(asked)
        yield from asked[: self.count]
