"""What the tiny seeker is asked: pages that have to be looked up, shots, and plates to be thought about."""

import numpy as np
import pytest

from vlreward.data.media import Clip, Picture
from vlreward.tiny.moments import FPS, FRAMES
from vlreward.tiny.pages import LINES, PAPERS, PLACES, TinyLookups, TinyPages, kept, library
from vlreward.tiny.scene import COLORS
from vlreward.tiny.tasks import make


def painted(frames: np.ndarray, color: str) -> np.ndarray:
    """Whether a color is to be seen in each frame [F,3,H,W]."""
    near = np.abs(frames * 255 - np.array(COLORS[color])[:, None, None]).sum(1) < 40
    return near.any((1, 2))


def test_each_line_of_a_page_stands_in_its_box():
    for page in library()[:8]:
        picture = page.picture()
        for i, line in enumerate(page.lines):
            left, top, right, bottom = page.box(i)
            assert picture.crop((left, top, right, bottom)).tobytes() == line.picture().tobytes()


def test_a_title_names_one_page_and_half_of_it_names_many():
    pages = list(TinyPages())
    assert len({page.id for page in pages}) == len(pages) == len(PLACES) * len(PAPERS)
    assert sum("amber" in page.prompt.split() for page in pages) == len(PAPERS)


def test_a_question_names_the_page_the_box_and_the_letters_of_its_line():
    pages = {page.id: page for page in library()}
    for sample in TinyLookups(count=40):
        assert not sample.visuals
        page = pages[sample.target["evidence_of"]]
        assert sample.target["pages"] == [page.id]
        assert sample.prompt.endswith(f"of the {' '.join(page.title)}?")
        line = LINES.index(sample.prompt.split()[3])
        assert sample.target["evidence"] == [page.box(line)]
        assert sample.target["answer"] == page.lines[line].text


def test_held_out_questions_are_about_other_pages_whose_words_are_all_known():
    train, held = ({one.target["evidence_of"] for one in TinyLookups(count=10**4, holdout=holdout)} for holdout in (False, True))
    assert not train & held
    assert train | held == {page.id for page in library()}
    assert {word for name in held for word in name.split("-")} <= {word for name in train for word in name.split("-")}


def test_another_library_has_the_same_titles_and_other_lines():
    first, second = library(), library(1)
    assert [page.id for page in first] == [page.id for page in second]
    assert [kept(page) for page in first] == [kept(page) for page in second]
    assert sum(page.lines == other.lines for page, other in zip(first, second, strict=True)) == 0


@pytest.mark.parametrize("seed", range(12))
def test_what_is_beside_a_thing_is_there_exactly_as_long_as_the_thing(seed):
    sample = make("shots", seed)
    [clip] = sample.visuals
    assert isinstance(clip, Clip)
    frames = np.asarray(clip.tensor)
    (start, end) = (round(second * FPS) for second in sample.target["evidence_spans"][0])
    there = [start <= frame < end for frame in range(FRAMES)]
    assert painted(frames, sample.prompt.split()[5]).tolist() == there
    assert painted(frames, sample.target["answer"]).tolist() == there


def test_a_reading_is_a_plate_with_another_question():
    sample = make("readings", 3)
    [picture] = sample.visuals
    assert isinstance(picture, Picture)
    assert picture.pil.size == (96, 24)
    assert 2 <= len(sample.target["answer"]) <= 4
