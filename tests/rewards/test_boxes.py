import random

import pytest

from vlreward.rewards.boxes import MAX_BOXES, BoxIoU
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


def test_a_sample_without_boxes_is_nan_and_wrong_boxes_are_the_datas_fault(rollout):
    assert BoxIoU().score([rollout("<answer>[1, 2, 3, 4]</answer>")]).scores.isnan().all()
    output = BoxIoU().score([answer("<answer>[1, 2, 3, 4]</answer>", boxes=((1, 2, 3),))])
    assert output.errors == ["target.boxes[0] has 3 numbers, expected x1 y1 x2 y2 in pixels"]


def test_the_report_gets_the_boxes():
    [marks] = BoxIoU().score([answer("<answer>[20, 10, 40, 30]</answer>")]).marks
    assert [(mark.role, mark.box) for mark in marks] == [("wanted", (10, 10, 30, 30)), ("answered", (20, 10, 40, 30))]


def test_the_token_syntax_counts_with_and_without_its_tokens():
    for text in ("<|box_start|>(10,10),(30,30)<|box_end|>", "(10,10),(30,30)", "the cat(10,10),(30,30)"):
        assert score(f"<answer>{text}</answer>") == 1.0


def test_a_truncated_list_keeps_its_complete_boxes():
    text = '<answer>```json\n[{"bbox_2d": [10, 10, 30, 30], "label": "x"}, {"bbox_2d": [50, 50, 6</answer>'
    assert score(text) == 1.0


def test_fractions_and_two_flat_boxes_which_vlm_r1_refuses_or_divides_by():
    assert score("<answer>[10.0, 10.0, 30.0, 30.0]</answer>") == 1.0
    assert score("<answer>[10, 10, 10, 10]</answer>") == 0.0
    assert score("<answer>[29, 29, 31, 31]</answer>") == pytest.approx(1 / 403), "an overlap of one pixel counts"


@pytest.mark.parametrize(("measure", "wanted"), [("giou", (1 + 1 / 3) / 2), ("diou", (1 + 1 / 3 - 100 / 1300) / 2)])
def test_other_measures_are_mapped_to_zero_to_one(measure, wanted):
    assert score("<answer>[20, 10, 40, 30]</answer>", BoxIoU(measure=measure)) == pytest.approx(wanted)
    assert score("<answer>[10, 10, 30, 30]</answer>", BoxIoU(measure=measure)) == 1.0
    assert score("<answer>none</answer>", BoxIoU(measure=measure)) == 0.0


def test_a_nearer_miss_scores_more_by_giou_and_nothing_by_iou():
    near, far = ("<answer>[31, 10, 51, 30]</answer>", "<answer>[70, 10, 90, 30]</answer>")
    assert score(near) == score(far) == 0.0
    assert score(near, BoxIoU(measure="giou")) > score(far, BoxIoU(measure="giou")) > 0
    assert score(far, BoxIoU(measure="giou", floor=0.5)) == 0.0


def test_the_whole_picture_earns_less_by_steps():
    large = ((0, 0, 96, 70),)
    assert score("<answer>[0, 0, 96, 96]</answer>", boxes=large) == pytest.approx(70 / 96)
    assert score("<answer>[0, 0, 96, 96]</answer>", BoxIoU(form="steps"), boxes=large) == pytest.approx(0.5)


def test_a_batch_scores_as_its_rows_do_and_a_broken_one_breaks_alone():
    rng = random.Random(0)

    def box() -> list[int]:
        x, y = rng.randint(0, 80), rng.randint(0, 80)
        return [x, y, x + rng.randint(-2, 16), y + rng.randint(1, 16)]

    rows = []
    for _ in range(200):
        wanted = [[x, y, max(x + 1, z), w] for x, y, z, w in (box() for _ in range(rng.randint(1, 4)))]
        rows.append(answer(f"<answer>{[box() for _ in range(rng.randint(0, 4))]}</answer>", boxes=wanted))
    rows[50] = answer("<answer>[1, 2, 3, 4]</answer>", boxes=((5, 5, 1, 1),))
    rows[60] = Rollout(sample=rows[61].sample, text=rows[60].text)
    reward = BoxIoU()
    together = reward.score(rows)
    alone = [reward.score([row]) for row in rows]
    assert together.errors == [output.errors[0] for output in alone]
    assert together.errors[50] == "target.boxes[0] is [5, 5, 1, 1], expected x1 < x2 and y1 < y2"
    assert together.scores[:50].tolist() == [output.scores.item() for output in alone[:50]]
    assert together.scores[51:].tolist() == [output.scores.item() for output in alone[51:]]
    assert list(together.notes) == [output.notes[0] for output in alone]
    assert list(together.marks) == [output.marks[0] for output in alone]


def test_boxes_beyond_the_first_hundred_only_cost():
    flood = ", ".join(["[50, 50, 60, 60]"] * MAX_BOXES + ["[10, 10, 30, 30]"])
    assert score(f"<answer>{flood}</answer>") == 0.0


@pytest.mark.parametrize("wrong", [5, [], [5], [[1, 2, 3]], [[1, 2, 3, "4"]], [[1, 2, 3, float("nan")]], [["a", "b", "c", "d"]], "boxes"])
def test_a_wrong_target_is_named_and_never_scored(rollout, wrong):
    good = rollout("<answer>[1, 2, 3, 4]</answer>", boxes=[[1, 2, 3, 4]])
    output = BoxIoU().score([rollout("<answer>[1, 2, 3, 4]</answer>", boxes=wrong), good])
    assert output.errors[0].startswith("target.boxes")
    assert output.errors[1] is None
    assert output.scores[1] == 1.0


@pytest.mark.parametrize("keys", [{}, {"measure": "ciou"}, {"form": "steps"}, {"frame": "thousand"}, {"form": "soft", "floor": 0.3}])
def test_no_answer_leaves_the_bounds_or_breaks(hostile, keys):
    output = BoxIoU(**keys).score([answer(text, boxes=((10, 10, 30, 30), (0, 0, 5, 5))) for text in hostile])
    assert not any(output.errors)
    assert ((output.scores >= 0) & (output.scores <= 1)).all()
