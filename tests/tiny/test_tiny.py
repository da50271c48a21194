import random

import numpy as np
import pytest

from vlreward.data.media import Picture
from vlreward.models.shape_detector import ShapeDetector
from vlreward.tiny.charts import KINDS, chart
from vlreward.tiny.motion import motion
from vlreward.tiny.scene import COLORS, PAPER, crowd, relation_holds, scene
from vlreward.tiny.tasks import HOLDOUT, TASKS, TinySource, make
from vlreward.types import Sample


def shown(sample: Sample) -> Picture:
    [picture] = sample.visuals
    assert isinstance(picture, Picture)
    return picture


@pytest.mark.parametrize("task", list(TASKS))
def test_a_sample_follows_from_its_seed_alone(task):
    first, again, other = make(task, 3), make(task, 3), make(task, 4)
    assert (first.id, first.prompt, first.target) == (again.id, again.prompt, again.target)
    assert [np.asarray(v.tensor).tobytes() for v in first.visuals] == [np.asarray(v.tensor).tobytes() for v in again.visuals]
    assert (first.prompt, first.target) != (other.prompt, other.target) or first.visuals


def test_held_out_samples_have_seeds_of_their_own():
    train = {s.id for s in TinySource(task="objects", count=50)}
    held = {s.id for s in TinySource(task="objects", count=50, holdout=True)}
    assert not train & held
    assert all(int(name.rpartition("-")[2]) >= HOLDOUT for name in held)
    assert {s.id for s in TinySource(task="objects", count=50, seed=1)}.isdisjoint(train)


def test_boxes_are_tight_around_what_is_drawn():
    for seed in range(30):
        view = crowd(random.Random(seed), 3)
        image = np.asarray(view.picture(96), dtype=int)
        for thing, box in zip(view.things, view.boxes(96)):
            if sum(other.color == thing.color for other in view.things) > 1:
                continue
            near = np.abs(image - np.array(COLORS[thing.color])).sum(-1) < 60
            rows, columns = np.nonzero(near)
            found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert np.abs(np.array(found) - box).max() <= 1.6, (seed, thing, box, found)


def test_captions_say_what_the_detector_sees():
    detector = ShapeDetector()
    for seed in range(60):
        view = scene(random.Random(seed))
        found = detector.detect([Picture(view.picture(48))], [[]])[0]
        wanted = sorted(f"{o['color']} {o['label']}" for o in view.objects for _ in range(o["count"]))
        assert sorted(f"{d.color} {d.label}" for d in found) == wanted
        assert all(o["label"] in view.caption and o["color"] in view.caption for o in view.objects)


def test_the_corners_of_a_scene_are_paper():
    assert scene(random.Random(0)).picture(32).getpixel((0, 0)) == PAPER


def test_questions_have_true_answers():
    for seed in range(40):
        sample = make("counting", seed)
        shape = sample.prompt.split()[2]
        found = ShapeDetector().detect([shown(sample)], [[]])[0]
        assert sum(shape.startswith(d.label) for d in found) == int(sample.target["answer"])
        sample = make("color", seed)
        found = ShapeDetector().detect([shown(sample)], [[]])[0]
        assert {d.color for d in found if f" {d.label}?" in sample.prompt} == {sample.target["answer"]}


def test_moving_things_stay_inside_and_their_boxes_follow_them():
    for seed in range(10):
        clip = motion(random.Random(seed), frames=30)
        for boxes in clip.boxes(96):
            assert all(-1e-6 <= v <= 96 + 1e-6 for box in boxes for v in box)
        frames = clip.clip(48).tensor
        assert frames.shape == (30, 3, 48, 48)
        assert (frames[0] != frames[5]).any()


def test_charts_show_their_table_and_know_the_answer():
    kinds = set()
    for seed in range(12):
        view = chart(random.Random(seed))
        kinds.add(view.kind)
        rows = dict(line.split(" | ") for line in view.table.splitlines()[2:])
        assert max(rows, key=lambda label: int(rows[label])) == view.question[1]
    assert kinds == set(KINDS)
    assert chart(random.Random(0)).picture().size == (320, 240)


def test_a_report_knows_how_it_is_told_and_what_follows():
    for seed in range(20):
        target = make("reports", seed).target
        for sentence, label, box in zip(target["reasoning"], target["labels"], target["boxes"], strict=True):
            assert sentence == f" {label} [{', '.join(str(round(value)) for value in box)}]."
        first, second = target["labels"]
        relation = target["answer"].removeprefix(f" {first} ").removesuffix(f" {second}.")
        assert relation_holds(relation.strip(), *target["boxes"])
