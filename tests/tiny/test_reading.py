"""The tasks of the tiny reader: what they ask is what is drawn."""

import ast
import random

import numpy as np
import pytest

from vlreward.data.media import Clip, Picture
from vlreward.tiny.bars import TOP, bars
from vlreward.tiny.moments import FPS, moments
from vlreward.tiny.plates import CELL, ROOM, plate
from vlreward.tiny.scene import COLORS, PAPER
from vlreward.tiny.tasks import SIDE, make


def pixels(task: str, seed: int) -> np.ndarray:
    [picture] = make(task, seed).visuals
    assert isinstance(picture, Picture)
    return np.asarray(picture.pil, dtype=int)


def painted(image: np.ndarray, color: str) -> np.ndarray:
    return np.abs(image - np.array(COLORS[color])).sum(-1) < 40


@pytest.mark.parametrize("seed", range(12))
def test_a_tally_counts_the_cells_with_the_asked_color(seed):
    sample, image = make("tally", seed), pixels("tally", seed)
    cells = painted(image, sample.prompt.split()[2]).reshape(4, 24, 4, 24).any((1, 3))
    assert cells.sum() == int(sample.target["answer"])


@pytest.mark.parametrize("seed", range(12))
def test_a_plate_has_ink_in_as_many_cells_as_letters_and_none_at_their_borders(seed):
    view, image = plate(random.Random(seed)), np.asarray(plate(random.Random(seed)).picture(), dtype=int)
    assert image.shape == (CELL, ROOM * CELL, 3)
    dark = (image.sum(-1) < 500).any(0)
    assert [bool(dark[i * CELL : (i + 1) * CELL].any()) for i in range(ROOM)] == [i < len(view.text) for i in range(ROOM)]


@pytest.mark.parametrize("seed", range(12))
def test_a_bar_is_as_high_as_its_value(seed):
    sample, image = make("heights", seed), pixels("heights", seed)
    rows = painted(image, sample.prompt.split()[6]).any(1).sum()
    assert rows / (SIDE - CELL) * TOP == pytest.approx(int(sample.target["answer"]), abs=1.5)


@pytest.mark.parametrize("seed", range(12))
def test_a_script_names_the_chart_its_letters_values_and_color(seed):
    view = bars(random.Random(f"scripts/{seed}"))
    _, line = make("scripts", seed).target["code"].split("\n")
    call = ast.parse(line, mode="eval").body
    assert isinstance(call, ast.Call)
    assert isinstance(call.func, ast.Attribute)
    assert call.func.attr == view.kind
    assert [ast.literal_eval(part) for part in call.args] == [[*view.labels], [*view.values]]
    assert [ast.literal_eval(part.value) for part in call.keywords] == [view.colors[0]]
    assert painted(pixels("scripts", seed), view.colors[0]).any()


@pytest.mark.parametrize("seed", range(12))
def test_a_thing_is_in_the_frames_of_its_span_and_in_no_other(seed):
    sample = make("spans", seed)
    [clip], [[start, end]] = sample.visuals, sample.target["spans"]
    assert isinstance(clip, Clip)
    assert clip.fps == FPS
    color = sample.prompt.split()[3]
    shown = [bool(painted(np.asarray(frame.pil, dtype=int), color).any()) for frame in clip.pictures]
    assert [i / FPS for i, here in enumerate(shown) if here] == [*np.arange(start, end, 1 / FPS)]


def test_the_things_of_a_clip_differ_in_color():
    for seed in range(30):
        first, second = moments(random.Random(seed)).things
        assert first.color != second.color


def test_a_clip_without_things_is_paper():
    [clip] = make("spans", 1).visuals
    assert np.asarray(clip.pictures[0].pil)[0, 0].tolist() == [*PAPER]
