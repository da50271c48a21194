import random

import numpy as np
import pytest
import torch
from PIL import Image

from vlreward.data.media import Clip, Picture
from vlreward.models.detector import Detection
from vlreward.models.shape_detector import ShapeDetector
from vlreward.rewards.objects import ObjectMatch
from vlreward.tiny.scene import PAPER, Thing, draw, relation_holds, scene
from vlreward.types import Rollout, Sample

CIRCLE = {"label": "circle", "color": "red", "count": 1}
SQUARE = {"label": "square", "color": "blue", "count": 1}
LEFT = {"subject": 0, "relation": "left of", "object": 1}
A = Thing("red", "circle", 0.25, 0.5, 0.35)
B = Thing("blue", "square", 0.75, 0.5, 0.35)


def score(things, objects, relations=(), side=32, **keys) -> float:
    picture = Picture(draw(tuple(things), side, side))
    sample = Sample(id="s", prompt="p", target={"objects": objects, "relations": list(relations)})
    output = ObjectMatch(**keys).score([Rollout(sample=sample, made=picture)])
    assert output.errors == [None], output.errors
    return output.scores.item()


@pytest.mark.parametrize("side", [32, 96])
def test_the_tiny_worlds_own_pictures_score_one_and_others_little(side):
    scenes = [scene(random.Random(seed)) for seed in range(60)]

    def scores(words, pictures):
        rollouts = [
            Rollout(sample=Sample(id="s", prompt="", target=w.target), made=Picture(p.picture(side))) for w, p in zip(words, pictures)
        ]
        return ObjectMatch().score(rollouts).scores

    assert (scores(scenes, scenes) == 1).all()
    assert scores(scenes, scenes[1:] + scenes[:1]).mean() < 0.15


def test_each_demand_is_a_term():
    assert score([A, B], [CIRCLE, SQUARE], [LEFT]) == 1.0
    assert score([A], [CIRCLE, SQUARE], [LEFT]) == pytest.approx((1 + 0 + 0 + 1) / 4)
    mirrored = [Thing("red", "circle", 0.75, 0.5, 0.35), Thing("blue", "square", 0.25, 0.5, 0.35)]
    assert score(mirrored, [CIRCLE, SQUARE], [LEFT]) == pytest.approx(3 / 4), "a failed relation is worth nothing, not a half"
    assert score(mirrored, [CIRCLE, SQUARE], [LEFT], strict=True) == 0.0


def test_a_wrong_colour_is_a_missing_and_a_surplus_object():
    green = Thing("green", "circle", 0.25, 0.5, 0.35)
    assert score([green], [CIRCLE]) == 0.0
    assert score([green, B], [SQUARE]) == pytest.approx((1 + 1 / 2) / 2)


def test_counts_are_graded_and_never_negative():
    three = [Thing("red", "circle", x, y, 0.28) for x, y in ((0.2, 0.2), (0.8, 0.2), (0.2, 0.8))]
    four = [*three, Thing("red", "circle", 0.8, 0.8, 0.28)]
    assert score(three[:2], [CIRCLE | {"count": 3}]) == pytest.approx((2 / 3 + 1) / 2)
    assert score(four, [CIRCLE]) == pytest.approx((0 + 1 / 4) / 2)
    assert score(four, [CIRCLE | {"color": "blue"}]) == 0.0


def test_tiling_the_picture_does_not_pay():
    tiles = [Thing("red", "circle", 0.17 + 0.33 * i, 0.17 + 0.33 * j, 0.28) for i in range(3) for j in range(3)]
    assert score(tiles, [CIRCLE]) < 0.1


def test_an_empty_picture_scores_zero():
    assert score([], [CIRCLE, SQUARE], [LEFT]) == 0.0
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    sample = Sample(id="s", prompt="p", target={"objects": [CIRCLE]})
    assert ObjectMatch().score([Rollout(sample=sample, made=Picture(noise))]).scores.item() < 0.3


def test_vague_objects_neither_count_nor_hide():
    reward = ObjectMatch()
    box = (0.0, 0.0, 9.0, 9.0)
    vague = Detection("circle", "red", box, 0.5)
    target = {"objects": [CIRCLE]}
    assert reward.grade(target, [vague])[0] == 0.0
    sure = Detection("circle", "red", (12.0, 0.0, 21.0, 9.0), 0.9)
    assert reward.grade(target, [sure, vague])[0] == pytest.approx((1 + 1 / 2) / 2)
    assert reward.grade(target, [sure, Detection("cross", "cyan", box, 0.3)])[0] == 1.0


def test_colour_is_optional_and_the_note_tells_what_was_found():
    score_, note = ObjectMatch().grade({"objects": [{"label": "circle", "count": 1}]}, [Detection("circle", "red", (0, 0, 9, 9), 0.9)])
    assert score_ == 1.0
    assert note == "1 of 1 circle"


def test_a_clip_is_judged_by_its_middle_frame():
    frames = torch.stack([Picture(draw((), 32, 32)).tensor, Picture(draw((A,), 32, 32)).tensor, Picture(draw((), 32, 32)).tensor])
    rollout = Rollout(sample=Sample(id="s", prompt="p", target={"objects": [CIRCLE]}), made=Clip(frames))
    assert ObjectMatch().score([rollout]).scores.item() == 1.0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"objects": []}, "expected a list"),
        ({"objects": [{"color": "red"}]}, "expected a mapping with a 'label'"),
        ({"objects": [CIRCLE | {"count": 0}]}, "target.objects[0].count is 0"),
        ({"objects": [CIRCLE], "relations": [LEFT]}, "expected an index below 1"),
        ({"objects": [CIRCLE, SQUARE], "relations": [LEFT | {"relation": "inside"}]}, "expected a relation among"),
    ],
)
def test_a_malformed_target_breaks_its_own_row_only(white, target, message):
    good = Rollout(sample=Sample(id="g", prompt="p", target={"objects": [CIRCLE]}), made=Picture(draw((A,), 32, 32)))
    bad = Rollout(sample=Sample(id="b", prompt="p", target=target), made=white)
    output = ObjectMatch().score([bad, good])
    assert message in (output.errors[0] or "")
    assert output.scores[1] == 1.0


def test_a_broken_picture_breaks_its_own_row_only(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no picture")
    sample = Sample(id="s", prompt="p", visuals=(Picture(tmp_path / "x.png"),), target={"objects": [CIRCLE]})
    output = ObjectMatch().score([Rollout(sample=sample), Rollout(sample=sample, made=Picture(draw((A,), 32, 32)))])
    assert "not a readable picture" in (output.errors[0] or "")
    assert output.scores[1] == 1.0


def test_a_half_drawn_shape_has_low_confidence():
    whole = np.asarray(draw((A,), 32, 32))
    half = whole.copy()
    half[:16] = PAPER
    detector = ShapeDetector()
    sure, vague = (detector.detect([Picture(Image.fromarray(image))], [[]])[0] for image in (whole, half))
    assert sure[0].label == "circle"
    assert sure[0].score > 0.8
    assert not [d for d in vague if d.label == "circle" and d.score > 0.75]


@pytest.mark.parametrize(
    ("relation", "first", "second", "wanted"),
    [
        ("left of", [0, 0, 10, 10], [20, 0, 30, 10], True),
        ("right of", [0, 0, 10, 10], [20, 0, 30, 10], False),
        ("above", [0, 0, 10, 10], [0, 20, 10, 30], True),
        ("below", [0, 20, 10, 30], [0, 0, 10, 10], True),
        ("left of", [0, 0, 10, 10], [20, 20, 30, 30], True),
        ("above", [0, 0, 10, 10], [20, 20, 30, 30], True),
        ("left of", [0, 0, 10, 10], [1, 0, 11, 10], False),
    ],
)
def test_relations_follow_genevals_rule(relation, first, second, wanted):
    assert relation_holds(relation, first, second) is wanted


def test_a_detector_is_asked_for_kinds_of_objects_without_their_colours():
    class Records(ShapeDetector):
        asked: list = []

        def detect(self, pictures, labels):
            self.asked.extend(labels)
            return super().detect(pictures, labels)

    score([A, B], [CIRCLE, SQUARE], detector=Records())
    assert Records.asked == [["circle", "square"]]
