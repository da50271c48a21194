"""The tasks of the tiny observer: what they ask is what is drawn."""

import random

import numpy as np
import pytest

from vlreward.data.media import Clip, Picture
from vlreward.registry import find
from vlreward.tiny.moments import FPS
from vlreward.tiny.observing import CELL, FRAME, board, cell_box
from vlreward.tiny.scene import COLORS, SHAPES
from vlreward.tiny.tasks import make
from vlreward.types import Rollout

SEEDS = range(12)


def pixels(task: str, seed: int, which: int = 0) -> np.ndarray:
    picture = make(task, seed).visuals[which]
    assert isinstance(picture, Picture)
    return np.asarray(picture.pil, dtype=int)


def painted(image: np.ndarray, color: str) -> np.ndarray:
    return np.abs(image - np.array(COLORS[color])).sum(-1) < 60


def judged(kind: str, text: str, task: str, seed: int, **keys) -> float:
    output = find("rewards", kind)(**keys).score([Rollout(sample=make(task, seed), text=text)])
    assert output.errors == [None]
    return output.scores.item()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("task", ["detections", "looks"])
def test_every_thing_of_the_asked_color_has_its_box_and_nothing_else_has(task, seed):
    sample = make(task, seed)
    color = next(color for color in COLORS if f" {color} " in sample.prompt)
    here = painted(pixels(task, seed), color).reshape(CELL, 4, CELL).any((0, 2))
    assert sample.target["boxes"] == [cell_box(int(cell)) for cell in np.flatnonzero(here)]
    assert len(sample.target["labels"]) == len(sample.target["boxes"])


def test_a_box_holds_its_thing_to_the_pixel():
    image = np.asarray(board({2: ("red", "square")}), dtype=int)
    rows, columns = np.nonzero(painted(image, "red"))
    assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == cell_box(2)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_board_is_empty_before_and_holds_what_is_told_after(seed):
    sample = make("changes", seed)
    differ = (pixels("changes", seed, 0) != pixels("changes", seed, 1)).any((0, 2)).reshape(4, CELL).any(1)
    assert len(np.unique(pixels("changes", seed, 0).reshape(-1, 3), axis=0)) == 1
    assert [place for place, _, _ in sample.target["changes"]] == [i + 1 for i in np.flatnonzero(differ)]
    for place, attribute, value in sample.target["changes"]:
        cell = pixels("changes", seed, 1)[:, (place - 1) * CELL : place * CELL]
        assert attribute in sample.prompt
        assert value in (COLORS if attribute == "color" else SHAPES)
        assert attribute == "shape" or painted(cell, value).any()
    text = ", ".join(f"({place}, {attribute}, {value})" for place, attribute, value in sample.target["changes"])
    assert judged("change_match", f"<answer>{text}</answer>", "changes", seed) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_things_of_the_named_color_are_relevant(seed):
    sample = make("rankings", seed)
    color = sample.prompt.split()[-2]
    here = painted(pixels("rankings", seed), color).reshape(CELL, 4, CELL).any((0, 2))
    relevant = sample.target["relevant"]
    assert relevant == [str(i + 1) for i in np.flatnonzero(here)]
    others = [name for name in sample.target["candidates"] if name not in relevant]
    assert judged("reranking", f"<answer>[{', '.join(relevant)}]</answer>", "rankings", seed) == 1
    assert judged("reranking", f"<answer>[{', '.join([others[0], *relevant])}]</answer>", "rankings", seed) < 1


@pytest.mark.parametrize("seed", SEEDS)
def test_an_event_is_to_be_seen_when_and_where_it_is_told(seed):
    sample = make("events", seed)
    [clip], color = sample.visuals, sample.prompt.split()[5]
    assert isinstance(clip, Clip)
    frames = (clip.tensor.permute(0, 2, 3, 1).numpy() * 255).round().astype(int)
    assert frames.shape[1:3] == (FRAME, FRAME)
    seen = painted(frames, color)
    [(start, end)], [box] = sample.target["spans"], sample.target["boxes"]
    assert [i / FPS for i in np.flatnonzero(seen.any((1, 2)))] == [*np.arange(start, end, 1 / FPS)]
    rows, columns = np.nonzero(seen.any(0))
    assert np.abs(np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) - box).max() <= 2


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("task", ["descriptions", "kinds"])
def test_a_description_names_the_colors_that_are_there(task, seed):
    words, image = make(task, seed).target["answer"].split(), pixels(task, seed)
    assert {color for color in COLORS if painted(image, color).sum() > 20} == {word for word in words if word in COLORS}


def test_the_smaller_a_named_object_the_higher_its_rate():
    found = [make("grounding", seed).target for seed in range(20)]
    widths = [target["boxes"][0][2] - target["boxes"][0][0] for target in found]
    assert [*np.argsort(widths)] == [*np.argsort([-target["rate"] for target in found])]


def test_every_sample_names_its_task():
    rng = random.Random(0)
    assert all(make(task, rng.randrange(99)).target["task"] == task for task in ("grounding", "spans", "events"))
