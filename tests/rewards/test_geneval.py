import random
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from vlreward.data.media import Picture
from vlreward.models.detector import Detection, Detector
from vlreward.rewards.geneval import GenEval, relative_position
from vlreward.tiny.scene import Thing, draw
from vlreward.types import Rollout, Sample

LEFT, RIGHT, LOW = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 60.0, 10.0), (0.0, 50.0, 10.0, 60.0)
DOG, CAT = {"class": "dog", "count": 1}, {"class": "cat", "count": 1}


@dataclass(kw_only=True)
class Finds(Detector):
    """What the prompt says is in the picture."""

    def detect(self, pictures, labels):
        self.asked = [list(asked) for asked in labels]
        return [list(found) for found in self.found]


def thing(label, box=LEFT, score=0.95, color="red") -> Detection:
    return Detection(label, color, box, score)


def row(label: str, count: int, **keys) -> list[Detection]:
    return [thing(label, (20.0 * i, 0.0, 20.0 * i + 10, 10.0), **keys) for i in range(count)]


def judge(found, include, exclude=(), tag="", **keys) -> float:
    target = {"include": include, "exclude": list(exclude), "tag": tag}
    detector = Finds()
    detector.found = [found]
    picture = Picture(Image.new("RGB", (64, 64)))
    output = GenEval(detector=detector, **keys).score([Rollout(sample=Sample(id="s", prompt="p", target=target), made=picture)])
    assert output.errors == [None], output.errors
    assert detector.asked == [[check["class"] for check in (*include, *exclude)]]
    return output.scores.item()


def both(found, include, exclude=(), tag=""):
    """The strict and the graded score."""
    return judge(found, include, exclude, tag), judge(found, include, exclude, tag, graded=True)


def test_single_and_two_objects():
    assert both([thing("dog")], [DOG]) == (1, 1)
    assert both([], [DOG]) == (0, 0)
    assert both([thing("dog"), thing("cat", RIGHT)], [DOG, CAT]) == (1, 1)
    assert both([thing("dog")], [DOG, CAT]) == (0, 0.5)


def test_counting_is_exact_by_include_and_exclude_and_seven_for_three_is_not_below_zero():
    three = [{"class": "dog", "count": 3}], [{"class": "dog", "count": 4}], "counting"
    assert both(row("dog", 3), *three) == (1, 1)
    assert both(row("dog", 2), *three) == (0, pytest.approx((2 / 3 + 1) / 2))
    assert both(row("dog", 4), *three) == (0, pytest.approx((2 / 3 + 0) / 2))
    assert both(row("dog", 7), *three) == (0, 0)
    assert judge(row("dog", 7), three[0], graded=True) == 0


def test_surplus_is_free_in_genevals_own_verdict_and_costs_in_the_graded_one():
    assert both(row("dog", 2), [DOG]) == (1, 0)
    assert both([*row("dog", 1), *row("cat", 5)], [DOG]) == (1, 1), "only classes of the prompt are looked at"


def test_an_excluded_object_fails_the_picture():
    assert both([thing("dog"), thing("cat", RIGHT)], [DOG], [CAT]) == (0, 0.5)
    assert both([thing("dog")], [DOG], [CAT]) == (1, 1)


def test_colours_are_bound_to_their_objects():
    include = [DOG | {"color": "red"}, CAT | {"color": "blue"}]
    dog, cat = thing("dog", color="red"), thing("cat", RIGHT, color="blue")
    assert both([dog, cat], include) == (1, 1)
    swapped = [thing("dog", color="blue"), thing("cat", RIGHT, color="red")]
    assert both(swapped, include) == (0, 0.5), "present, but each in the other's colour"
    two = [{"class": "dog", "count": 2, "color": "red"}]
    assert both([dog, thing("dog", RIGHT, color="green")], two) == (0, 0.75)


def test_the_surest_objects_are_the_ones_whose_colour_counts():
    found = [thing("dog", color="blue", score=0.99), thing("dog", RIGHT, color="red", score=0.5)]
    assert judge(found, [DOG | {"color": "red"}]) == 0
    assert judge(found[::-1], [DOG | {"color": "blue"}]) == 1


def test_a_wrong_position_is_worth_nothing_and_not_three_quarters():
    include = [DOG, CAT | {"position": ["right of", 0]}]
    assert both([thing("dog", LEFT), thing("cat", RIGHT)], include) == (1, 1)
    strict, graded = both([thing("dog", RIGHT), thing("cat", LEFT)], include)
    assert strict == 0
    assert graded == pytest.approx(2 / 3), "two counts and no position; the public reward server gives 0.75"
    assert both([thing("cat", RIGHT)], include)[1] == pytest.approx(1 / 3), "no object to stand beside"


def test_every_object_must_stand_in_the_relation_to_every_other():
    include = [{"class": "dog", "count": 2}, CAT | {"position": ["right of", 0]}]
    assert judge([thing("dog", LEFT), thing("dog", LOW), thing("cat", (80, 25, 90, 35))], include) == 1
    assert judge([thing("dog", LEFT), thing("dog", (160, 0, 170, 10)), thing("cat", (80, 0, 90, 10))], include) == 0


def test_a_failed_object_cannot_be_stood_beside():
    include = [DOG | {"color": "red"}, CAT | {"position": ["right of", 0]}]
    assert both([thing("dog", color="blue"), thing("cat", RIGHT)], include) == (0, pytest.approx(0.5))


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (LEFT, RIGHT, {"left of"}),
        (RIGHT, LEFT, {"right of"}),
        (LEFT, LOW, {"above"}),
        (LOW, RIGHT, {"left of", "below"}),
        (LEFT, LEFT, set()),
        ((0, 0, 10, 10), (1.9, 0, 11.9, 10), set()),
        ((0, 0, 10, 10), (3, 0, 13, 10), set()),
        ((0, 0, 10, 10), (4.1, 0, 14.1, 10), {"left of"}),
    ],
)
def test_positions_by_hand(first, second, wanted):
    assert relative_position(first, second) == wanted


def plain_position(a, b) -> set[str]:
    """GenEval's rule once more, one axis at a time."""
    centre = [((a[k] + a[k + 2]) / 2 - (b[k] + b[k + 2]) / 2) for k in (0, 1)]
    size = [(a[k + 2] - a[k]) + (b[k + 2] - b[k]) for k in (0, 1)]
    length = (centre[0] ** 2 + centre[1] ** 2) ** 0.5
    found = set()
    for k, (less, more) in enumerate((("left of", "right of"), ("above", "below"))):
        moved = max(abs(centre[k]) - 0.1 * size[k], 0.0)
        if moved >= 1e-3 and moved / length > 0.5:
            found.add(less if centre[k] < 0 else more)
    return found


def test_positions_are_those_of_a_second_implementation():
    rng = np.random.default_rng(0)
    for _ in range(3000):
        corners, sizes = rng.uniform(0, 60, (2, 2)), rng.uniform(0.1, 30, (2, 2))
        a, b = (tuple(float(v) for v in (*corner, *(corner + size))) for corner, size in zip(corners, sizes, strict=True))
        assert relative_position(a, b) == plain_position(a, b)
        flipped = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
        assert relative_position(b, a) == {flipped[relation] for relation in relative_position(a, b)}


def test_the_bar_is_higher_where_objects_are_counted():
    dim = row("dog", 1, score=0.5)
    assert judge(dim, [DOG]) == 1
    assert judge(dim, [DOG], tag="counting") == 0
    assert judge(row("dog", 1, score=0.3), [DOG]) == 0, "above, not at"


def test_no_more_than_the_surest_sixteen_are_looked_at():
    assert judge(row("dog", 40), [{"class": "dog", "count": 16}], graded=True) == 1


def test_order_of_detections_does_not_matter():
    rng = random.Random(0)
    found = [*row("dog", 3, color="red"), thing("cat", RIGHT, color="blue", score=0.7), thing("dog", LOW, score=0.6, color="blue")]
    include = [{"class": "dog", "count": 2, "color": "red"}, CAT | {"position": ["below", 0]}]
    wanted = judge(found, include, graded=True)
    for _ in range(10):
        distinct = [Detection(d.label, d.color, d.box, 0.9 - 0.01 * i) for i, d in enumerate(found)]
        rng.shuffle(distinct)
        assert judge(distinct, include, graded=True) == wanted


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ({"include": []}, "target.include is []"),
        ({"include": "dog"}, "target.include is 'dog'"),
        ({"include": [{"count": 1}]}, "target.include[0] is {'count': 1}, expected a mapping with a 'class'"),
        ({"include": [{"class": "dog"}]}, "target.include[0].count is None"),
        ({"include": [{"class": "dog", "count": 0}]}, "target.include[0].count is 0"),
        ({"include": [DOG | {"position": ["left of", 0]}]}, "target.include[0].position is ['left of', 0]"),
        ({"include": [DOG, CAT | {"position": ["beside", 0]}]}, "target.include[1].position"),
        ({"include": [DOG], "exclude": [{"class": "cat"}]}, "target.exclude[0].count"),
    ],
)
def test_a_broken_target_costs_its_own_row(target, problem):
    detector = Finds()
    detector.found = [[], [thing("dog")]]
    picture = Picture(Image.new("RGB", (64, 64)))
    rows = [Rollout(sample=Sample(id="s", prompt="p", target=t), made=picture) for t in (target, {"include": [DOG]})]
    output = GenEval(detector=detector).score(rows)
    assert problem in (output.errors[0] or "")
    assert output.scores[1] == 1


def test_a_broken_picture_costs_its_own_row(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no picture")
    detector = Finds()
    detector.found = [[thing("dog")], [thing("dog")]]
    sample = Sample(id="s", prompt="p", target={"include": [DOG]})
    rows = [Rollout(sample=sample, made=Picture(source)) for source in (tmp_path / "x.png", Image.new("RGB", (4, 4)))]
    output = GenEval(detector=detector).score(rows)
    assert "not a readable picture" in (output.errors[0] or "")
    assert output.scores[1] == 1


def test_a_detector_that_tells_no_colours_is_named_as_the_cause():
    detector = Finds()
    detector.found = [[thing("dog", color="")]]
    sample = Sample(id="s", prompt="p", target={"include": [DOG | {"color": "red"}]})
    output = GenEval(detector=detector).score([Rollout(sample=sample, made=Picture(Image.new("RGB", (4, 4))))])
    assert "kind: colored" in (output.errors[0] or "")


def test_the_tiny_world_is_judged_from_its_pixels():
    picture = Picture(draw((Thing("red", "circle", 0.25, 0.5, 0.35), Thing("blue", "square", 0.75, 0.5, 0.35)), 64, 64))
    include = [{"class": "circle", "count": 1, "color": "red"}, {"class": "square", "count": 1, "position": ["right of", 0]}]
    targets = [{"include": include, "exclude": [{"class": "circle", "count": 2}]}, {"include": [*include, {"class": "cross", "count": 1}]}]
    output = GenEval().score([Rollout(sample=Sample(id="s", prompt="p", target=t), made=picture) for t in targets])
    assert output.scores.tolist() == [1, 0]
    assert output.notes[1] == "0 of 1 cross"


def test_random_detections_and_targets_stay_in_bounds():
    rng = random.Random(0)
    names = ["dog", "cat", ""]
    for _ in range(2000):
        found = []
        for _ in range(rng.randrange(30)):
            x, y, w, h = (rng.choice([0.0, rng.uniform(0, 64), 1e9]) for _ in range(4))
            found.append(Detection(rng.choice(names), rng.choice(["red", "blue"]), (x, y, x + w, y + h), rng.random()))
        include = [{"class": rng.choice(names), "count": rng.choice([1, 2, 99])} for _ in range(rng.randrange(1, 4))]
        for i, check in enumerate(include):
            check |= {"color": "red"} if rng.random() < 0.3 else {}
            check |= {"position": [rng.choice(["left of", "above"]), rng.randrange(i)]} if i and rng.random() < 0.5 else {}
        strict, graded = both(found, include, [{"class": "dog", "count": 3}], rng.choice(["counting", ""]))
        assert strict in (0, 1)
        assert 0 <= graded <= 1
        assert graded > 0 or strict == 0
