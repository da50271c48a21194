import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from vlreward.rewards.boxes import BoxIoU, pairwise_iou, read_boxes, to_pixels
from vlreward.types import Rollout, Sample


def answer(text: str, boxes=((10, 10, 30, 30),), size=(96, 96), **target) -> Rollout:
    return Rollout(sample=Sample(id="s", prompt="p", target={"boxes": [list(b) for b in boxes], "size": list(size), **target}), text=text)


def score(text: str, reward=None, **keywords) -> float:
    output = (reward or BoxIoU()).score([answer(text, **keywords)])
    assert output.errors == [None], output.errors
    return output.scores.item()


def test_the_exact_box_scores_one():
    assert score("<answer>[10, 10, 30, 30]</answer>") == 1.0
    assert score('<answer>```json\n[{"bbox_2d": [10.0, 10, 30, 3e1], "label": "x"}]```</answer>') == 1.0


def test_a_worked_overlap():
    assert score("<answer>[20, 10, 40, 30]</answer>") == pytest.approx(200 / 600)


@pytest.mark.parametrize("text", ["", "no", "<answer></answer>", "<answer>[1, 2, 3]</answer>", "<answer>[10, 10, 30", "[10, 10, 30, 30]"])
def test_an_empty_or_malformed_answer_scores_zero(text):
    assert score(text) == 0.0


@pytest.mark.parametrize(
    "text", ["[30, 30, 10, 10]", "[10, 10, 10, 30]", "[1e999, 10, 30, 30]", "[-50, -50, -10, -10]", "[500, 500, 900, 900]"]
)
def test_swapped_flat_infinite_or_outside_boxes_score_zero(text):
    assert score(f"<answer>{text}</answer>") == 0.0


def test_the_last_answer_counts():
    assert score("<answer>[10, 10, 30, 30]</answer><answer>[50, 50, 60, 60]</answer>") == 0.0


def test_listing_many_boxes_does_not_help():
    right = "[10, 10, 30, 30]"
    spam = ", ".join([right] + [f"[{x}, {x}, {x + 9}, {x + 9}]" for x in range(30, 60)])
    assert score(f"<answer>[{spam}]</answer>") == pytest.approx(1 / 31)
    assert score(f"<answer>{right}, {right}</answer>") == 0.5
    flood = ", ".join([right] * 500)
    assert score(f"<answer>{flood}</answer>") == pytest.approx(1 / 500)


def test_a_missing_box_costs_its_share_and_order_does_not_matter():
    two = ((10, 10, 30, 30), (50, 50, 70, 70))
    assert score("<answer>[50, 50, 70, 70]</answer>", boxes=two) == 0.5
    assert score("<answer>[[50, 50, 70, 70], [10, 10, 30, 30]]</answer>", boxes=two) == 1.0


def test_the_whole_picture_is_worth_the_share_of_its_area_and_the_floor_takes_that_too():
    assert score("<answer>[0, 0, 96, 96]</answer>") == pytest.approx(400 / 9216)
    assert score("<answer>[0, 0, 96, 96]</answer>", BoxIoU(floor=0.5)) == 0.0
    assert score("<answer>[-900, -900, 900, 900]</answer>") == pytest.approx(400 / 9216)


@pytest.mark.parametrize(
    ("frame", "text", "more"),
    [
        ("thousand", "[100, 200, 300, 600]", {}),
        ("unit", "[.1, .2, .3, .6]", {}),
        ("resized", "[56, 56, 168, 168]", {"resized": [560, 280]}),
        ("pixels", "[20, 10, 60, 30]", {}),
    ],
)
def test_coordinates_are_read_in_the_frame_that_the_config_names(frame, text, more):
    got = score(f"<answer>{text}</answer>", BoxIoU(frame=frame), boxes=((20, 10, 60, 30),), size=(200, 50), **more)
    assert got == pytest.approx(1.0)


def test_a_sample_without_boxes_is_nan_and_wrong_boxes_are_the_datas_fault(rollout):
    assert BoxIoU().score([rollout("<answer>[1, 2, 3, 4]</answer>")]).scores.isnan().all()
    output = BoxIoU().score([answer("<answer>[1, 2, 3, 4]</answer>", boxes=((1, 2, 3),))])
    assert output.errors == ["target.boxes[0] has 3 numbers, expected x1 y1 x2 y2 in pixels"]
    output = BoxIoU(frame="resized").score([answer("<answer>[1, 2, 3, 4]</answer>")])
    assert "target.resized" in (output.errors[0] or "")


def test_the_report_gets_the_boxes():
    [marks] = BoxIoU().score([answer("<answer>[20, 10, 40, 30]</answer>")]).marks
    assert [(mark.role, mark.box) for mark in marks] == [("wanted", (10, 10, 30, 30)), ("answered", (20, 10, 40, 30))]


coordinate = st.floats(0, 100).map(lambda v: round(v, 2))
box = st.tuples(coordinate, coordinate, st.floats(1, 50), st.floats(1, 50)).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])


@given(st.lists(box, min_size=1, max_size=5), st.lists(box, min_size=1, max_size=5))
def test_iou_agrees_with_torchvision(first, second):
    ours = pairwise_iou(np.array(first), np.array(second))
    theirs = box_iou(torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)).numpy()
    assert np.abs(ours - theirs).max() < 1e-12


def test_boxes_without_area_have_iou_zero_not_nan():
    flat = np.array([[1.0, 1.0, 1.0, 1.0]])
    assert pairwise_iou(flat, flat).tolist() == [[0.0]]


@given(st.text(alphabet="[](), .-+e0123456789<answer>/", max_size=120))
def test_any_text_stays_in_bounds_and_never_breaks(text):
    for wrapped in (text, f"<answer>{text}</answer>"):
        assert 0 <= score(wrapped) <= 1


@given(st.lists(box, min_size=1, max_size=4))
def test_reading_what_was_written_gives_the_same_boxes(boxes):
    assert np.allclose(read_boxes(str(boxes)), boxes)


def test_an_unknown_resized_size_is_refused():
    from vlreward.errors import DataError

    with pytest.raises(DataError, match=r"target\.resized"):
        to_pixels(np.zeros((1, 4)), "resized", (10, 10))
