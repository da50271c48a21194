import math

import pytest

from vlreward.rewards.points import ClickBox, PointInBox

TARGET = {"boxes": [[100, 100, 200, 200]], "size": [1000, 1000]}


def score(reward, rollout, text: str, **target) -> float:
    output = reward.score([rollout(f"<answer>{text}</answer>", **(TARGET | target))])
    assert output.errors == [None], output.errors
    return output.scores.item()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("(150, 150)", 1),
        ('```json\n[{"point_2d": [150, 150], "label": "ok"}]\n```', 1),
        ("[100, 200]", 1),
        ("(99.9, 150)", 0),
        ("[100, 120, 180, 160]", 1),
        ("", 0),
        ("somewhere", 0),
        ("150, 150", 0),
        ("(1e999, 150)", 0),
        ("(-50, 150)", 0),
        ("(150, 150), (10, 10)", 0.5),
        ("(150, 150), (150, 150)", 0.5),
    ],
)
def test_a_point_hits_or_misses_and_a_surplus_one_costs(rollout, text, wanted):
    assert score(PointInBox(), rollout, text) == wanted


def test_several_boxes_want_a_point_each(rollout):
    boxes = [[100, 100, 200, 200], [300, 300, 400, 400]]
    assert score(PointInBox(), rollout, "(350, 350), (150, 150)", boxes=boxes) == 1.0
    assert score(PointInBox(), rollout, "(150, 150), (160, 160)", boxes=boxes) == 0.5


def test_a_soft_hit_falls_like_a_bell_with_half_the_diagonal(rollout):
    assert score(PointInBox(soft=True), rollout, "(150, 150)") == 1.0
    assert score(PointInBox(soft=True), rollout, "(200, 200)") == pytest.approx(math.exp(-0.5))
    assert score(PointInBox(soft=True), rollout, "(150, 250)") == pytest.approx(math.exp(-(100**2) / (2 * 50**2 * 2)))


def test_a_point_outside_of_the_picture_is_not_moved_onto_a_box_at_its_edge(rollout):
    edge = {"boxes": [[900, 900, 1000, 1000]]}
    assert score(PointInBox(), rollout, "(5000, 950)", **edge) == 0
    assert score(PointInBox(), rollout, "(1000, 950)", **edge) == 1
    assert score(PointInBox(soft=True), rollout, "(1000, 950)", **edge) > 0.5
    assert score(PointInBox(soft=True), rollout, "(1001, 950)", **edge) == 0
    assert score(PointInBox(frame="unit"), rollout, "(1.0, .95)", **edge) == 1


def guig1(box, wanted, side=1000) -> float:
    """The published reward, from its description, edges in pixels and nothing clamped."""
    close = [1 - abs(a - b) / side for a, b in zip(box, wanted, strict=True)]
    width, height = min(box[2], wanted[2]) - max(box[0], wanted[0]), min(box[3], wanted[3]) - max(box[1], wanted[1])
    common = max(width, 0) * max(height, 0)
    area = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, wanted)]
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    hit = wanted[0] <= x <= wanted[2] and wanted[1] <= y <= wanted[3]
    return hit + 0.25 * common / (sum(area) - common) + 0.125 * 4 / sum(1 / c for c in close)


@pytest.mark.parametrize("box", [[100, 100, 200, 200], [120, 90, 210, 200], [0, 0, 999, 999], [500, 500, 600, 700]])
def test_a_box_inside_of_the_picture_scores_as_published(rollout, box):
    assert score(ClickBox(), rollout, str(box)) == pytest.approx(guig1(box, [100, 100, 200, 200]), abs=1e-12)


def test_the_published_pole_is_gone(rollout):
    assert guig1([-1234, 100, 200, 200], [100, 100, 200, 200]) > 80
    for x in range(-2000, 0, 7):
        assert score(ClickBox(), rollout, f"[{x}, 100, 200, 200]") <= score(ClickBox(), rollout, "[0, 100, 200, 200]")


def test_the_exact_box_scores_the_sum_of_the_weights(rollout):
    assert score(ClickBox(), rollout, "[100, 100, 200, 200]") == 1.375
    assert score(ClickBox(hit=0.5, iou=0.3, size=0.2), rollout, "[100, 100, 200, 200]") == pytest.approx(1.0)
    assert score(ClickBox(), rollout, "[100, 100, 200, 200], [0, 0, 9, 9]") == pytest.approx(1.375 / 2)
    assert score(ClickBox(), rollout, "[150, 150, 150, 150]") == 0.0


def test_an_edge_a_whole_picture_away_has_no_closeness(rollout):
    output = ClickBox().score([rollout("<answer>[0, 0, 1, 1]</answer>", boxes=[[0, 0, 1000, 1000]], size=[1000, 1000])])
    assert output.parts["size"].item() < 0.01


def test_a_box_to_click_needs_the_pictures_size(rollout):
    output = ClickBox().score([rollout("<answer>[1, 2, 3, 4]</answer>", boxes=[[1, 2, 3, 4]])])
    assert output.errors == ["'click_box' needs the picture or target.size"]


@pytest.mark.parametrize("reward", [PointInBox(), PointInBox(soft=True), PointInBox(frame="unit"), ClickBox()])
def test_no_answer_leaves_the_bounds_or_breaks(rollout, hostile, reward):
    output = reward.score([rollout(text, **TARGET) for text in hostile])
    assert not any(output.errors)
    assert ((output.scores >= 0) & (output.scores <= reward.bounds[1])).all()
