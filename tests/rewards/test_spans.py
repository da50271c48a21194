import random

import pytest
import shapely

from vlreward.rewards.spans import TemporalIoU, span_iou


def score(rollout, text: str, spans, reward=None, **target) -> float:
    output = (reward or TemporalIoU()).score([rollout(f"<answer>{text}</answer>", spans=spans, **target)])
    assert output.errors == [None], output.errors
    return output.scores.item()


@pytest.mark.parametrize(
    ("text", "spans", "wanted"),
    [
        ("10 - 20", [[10, 20]], 1),
        ('{"start": 10, "end": 20}', [[10, 20]], 1),
        ("0:10 to 0:20", [[15, 25]], 1 / 3),
        ("10 - 20, 30 - 40", [[10, 20]], 1 / 2),
        ("30 - 40, 10 - 20", [[10, 20], [30, 40]], 1),
        ("10 - 20", [[10, 20], [30, 40]], 1 / 2),
        ("0 - 100", [[10, 20]], 1 / 10),
        ("0 - 10", [[20, 30]], 0),
        ("20 - 10", [[10, 20]], 0),
        ("10 - 20, 40 - 30", [[10, 20]], 0),
        ("10 - 10", [[10, 20]], 0),
        ("", [[10, 20]], 0),
        ("at noon", [[10, 20]], 0),
        ("none", [[10, 20]], 0),
        ("none", [], 1),
        ("[]", [], 1),
        ("no idea", [], 0),
        ("10 - 20", [], 0),
    ],
)
def test_seconds_in_common_over_seconds_in_either(rollout, text, spans, wanted):
    assert score(rollout, text, spans) == pytest.approx(wanted)


def test_spans_apart_are_not_measured_by_their_hull():
    """The common code divides by the hull: 10 of 100 seconds here, not 10 of 30."""
    assert span_iou([(0, 10), (90, 100)], [(0, 10), (40, 50)]) == pytest.approx(10 / 30)


def test_repeating_or_splitting_a_span_changes_nothing(rollout):
    assert score(rollout, ", ".join(["10 - 20"] * 50), [[10, 20]]) == 1.0
    assert score(rollout, "15 - 20, 10 - 15, 12 - 18", [[10, 20]]) == 1.0


def test_a_span_is_cut_off_at_the_clips_end(rollout):
    assert score(rollout, "10 - 99999", [[10, 20]], duration=20) == 1.0
    assert score(rollout, "30 - 40", [[10, 20]], duration=20) == 0.0
    assert score(rollout, "10 - 99999", [[10, 20]]) < 0.001


def test_a_hit_at_one_half_is_the_recall_of_video_grounding(rollout):
    reward = TemporalIoU(form="hit", floor=0.5)
    assert score(rollout, "10 - 20", [[10, 30]], reward) == 1.0
    assert score(rollout, "10 - 19", [[10, 30]], reward) == 0.0


def test_unions_agree_with_a_count_of_seconds():
    rng = random.Random(0)
    for _ in range(300):
        sides = [[(a, a + rng.randint(1, 9)) for a in (rng.randint(0, 30) for _ in range(rng.randint(1, 4)))] for _ in range(2)]
        first, second = ({second for start, end in spans for second in range(start, end)} for spans in sides)
        assert span_iou(*sides) == pytest.approx(len(first & second) / len(first | second), abs=1e-12)


@pytest.mark.parametrize("spans", [[[20, 10]], [[1]], [["a", 2]], [5], 5, [[-1, 3]], [[1, float("inf")]]])
def test_a_wrong_target_breaks_its_row_only(rollout, spans):
    output = TemporalIoU().score([rollout("<answer>1 - 2</answer>", spans=spans), rollout("<answer>1 - 2</answer>", spans=[[1, 2]])])
    assert output.errors[0].startswith("target.spans")
    assert output.scores[1] == 1.0
    assert "target.duration" in TemporalIoU().score([rollout("<answer>1 - 2</answer>", spans=[[1, 2]], duration="x")]).errors[0]


def test_no_answer_leaves_the_bounds_or_breaks(rollout, hostile):
    output = TemporalIoU().score([rollout(text, spans=[[10, 20], [30, 32]]) for text in hostile])
    assert not any(output.errors)
    assert ((output.scores >= 0) & (output.scores <= 1)).all()


def test_unions_of_spans_agree_with_shapely():
    rng = random.Random(0)
    for _ in range(500):
        sides = [
            [(start, start + rng.randint(1, 3000) / 100) for start in (rng.randint(0, 6000) / 100 for _ in range(rng.randint(1, 4)))]
            for _ in "ab"
        ]
        first, second = (shapely.unary_union([shapely.box(start, 0, end, 1) for start, end in spans]) for spans in sides)
        assert span_iou(*sides) == pytest.approx(first.intersection(second).area / first.union(second).area, abs=1e-12)
