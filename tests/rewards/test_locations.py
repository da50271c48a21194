"""Where a text says that each named thing is."""

import math

import pytest

from vlreward.errors import ConfigError
from vlreward.rewards.locations import NamedLocation

WANTED = {"labels": ["red circle", "the dog"], "boxes": [[10, 10, 30, 30], [50, 40, 90, 70]]}


def score(rollout, text, **keys):
    output = NamedLocation(**keys).score([rollout(text, **WANTED)])
    assert output.errors == [None]
    return output.scores.item()


@pytest.mark.parametrize(
    "inner",
    [
        "red circle: [10, 10, 30, 30], dog: [50, 40, 90, 70]",
        "The dog is at [50, 40, 90, 70]. A Red Circle [10, 10, 30, 30].",
        '[{"bbox_2d": [10, 10, 30, 30], "label": "red circle"}, {"bbox_2d": [50, 40, 90, 70], "label": "Dog"}]',
    ],
)
def test_all_things_in_their_places_score_one_however_they_are_listed(rollout, inner):
    assert score(rollout, f"<location>{inner}</location>") == 1
    assert score(rollout, inner, tag="") == 1
    assert score(rollout, inner) == 0


@pytest.mark.parametrize(("shift", "right"), [(0, True), (2, True), (4, True), (5, False), (9, False)])
def test_the_centre_counts_by_its_distance_over_half_the_box(rollout, shift, right):
    """2 sqrt(1 - dx) - 1 > 1/2 means dx < 7/16: 4.375 pixels of a box that is 20 wide."""
    text = f"<location>red circle: [{10 + shift}, 10, {30 + shift}, 30], dog: [50, 40, 90, 70]</location>"
    assert score(rollout, text) == (1 if right else 0.5)


def test_overlap_asks_for_the_extent_too(rollout):
    tiny = "<location>red circle: [19, 19, 21, 21], dog: [50, 40, 90, 70]</location>"
    assert score(rollout, tiny) == 1
    assert score(rollout, tiny, form="overlap") == 0.5


@pytest.mark.parametrize(
    ("inner", "wanted"),
    [
        ("red circle: [10, 10, 30, 30]", 0.5),
        ("red circle: [10, 10, 30, 30], red circle: [0, 0, 5, 5], dog: [50, 40, 90, 70]", 1 / 3),
        ("red circle: [10, 10, 30, 30], dog: [50, 40, 90, 70], cat: [0, 0, 5, 5], cow: [0, 0, 5, 5]", 0.5),
        ("red circle: [50, 40, 90, 70], dog: [10, 10, 30, 30]", 0),
        ("red circle: [30, 30, 10, 10], dog: [90, 70, 50, 40]", 0),
        ("circle: [10, 10, 30, 30]", 0),
        ("red circle: [1e999, 10, 30, 30]", 0),
        ("", 0),
    ],
)
def test_swapped_repeated_surplus_and_malformed_places_cost(rollout, inner, wanted):
    assert score(rollout, f"<location>{inner}</location>") == pytest.approx(wanted)


def test_the_last_tag_counts_and_is_the_segment(rollout):
    text = "<location>dog: [0, 0, 1, 1]</location> <location>dog: [50, 40, 90, 70]</location>"
    output = NamedLocation().score([rollout(text, **WANTED)])
    [segment] = output.segments[0]
    assert (text[segment.start : segment.end], segment.reward) == ("dog: [50, 40, 90, 70]", 0.5)


def test_coordinates_are_in_the_frame_that_is_named(rollout):
    inner = "<location>red circle: [100, 125, 300, 375], dog: [500, 500, 900, 875]</location>"
    output = NamedLocation(frame="thousand").score([rollout(inner, **WANTED, size=[100, 80])])
    assert output.scores.tolist() == [1]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"labels": ["a"], "boxes": [[0, 0, 1, 1], [0, 0, 2, 2]]}, "target.labels"),
        ({"labels": ["dog", "the dog"], "boxes": [[0, 0, 1, 1], [0, 0, 2, 2]]}, "target.labels"),
        ({"labels": ["dog"], "boxes": [[3, 0, 1, 1]]}, "target.boxes[0]"),
    ],
)
def test_a_broken_target_is_an_error(rollout, target, said):
    output = NamedLocation().score([rollout("x", **target)])
    assert said in output.errors[0]
    assert math.isnan(output.scores[0])


def test_a_tag_with_brackets_is_refused():
    with pytest.raises(ConfigError, match="tag"):
        NamedLocation(tag="<location>")
