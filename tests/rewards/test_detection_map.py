import contextlib
import io
import itertools
import json
import random

import pytest
from faster_coco_eval import COCO as FasterCOCO
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vlreward.rewards.detection_map import DetectionMap

GRID = [[x, y, x + 20, y + 20] for x in (0, 30, 60) for y in (0, 30, 60)]


def written(found) -> str:
    return json.dumps([{"bbox_2d": list(box), "label": label} for box, label in found])


def score(rollout, found, truth, **keys) -> float:
    target = {"boxes": [list(box) for box, _ in truth], "labels": [label for _, label in truth]}
    output = DetectionMap(**keys).score([rollout(f"<answer>{written(found)}</answer>", **target)])
    assert output.errors == [None], output.errors
    return output.scores.item()


def coco(found, truth, faster=True) -> float:
    """mAP by COCO's code, every box with confidence 1; only classes of the truth exist for it."""
    classes = {label: i + 1 for i, label in enumerate(sorted({label for _, label in truth}))}

    def entry(box, label) -> dict:
        x1, y1, x2, y2 = box
        return {
            "image_id": 1,
            "category_id": classes[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
        }

    data = {
        "images": [{"id": 1, "width": 200, "height": 200}],
        "categories": [{"id": i, "name": label} for label, i in classes.items()],
        "annotations": [entry(*pair) | {"id": i + 1} for i, pair in enumerate(truth)],
    }
    known = [entry(*pair) | {"score": 1.0} for pair in found if pair[1] in classes]
    if not known:
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        if faster:
            judged = FasterCOCO(data)
            judge = COCOeval_faster(judged, judged.loadRes(known), "bbox", print_function=lambda *_: None)
        else:
            judged = COCO()
            judged.dataset = data
            judged.createIndex()
            judge = COCOeval(judged, judged.loadRes(known), "bbox")
        judge.evaluate(), judge.accumulate(), judge.summarize()
    return float(judge.stats[0])


def scene(rng: random.Random, false: int = 1) -> tuple[list, list]:
    truth = [(box, rng.choice(("cat", "dog"))) for box in rng.sample(GRID, rng.randint(1, 4))]
    found = [([b[0] + rng.randint(0, 3), b[1] + rng.randint(0, 3), b[2], b[3]], label) for b, label in truth if rng.random() < 0.8]
    labels = sorted({label for _, label in truth})
    return found + [([100, 100, 120, 130 + i], rng.choice(labels)) for i in range(rng.randint(0, false))], truth


@pytest.mark.parametrize("faster", [True, False])
def test_without_false_boxes_it_is_cocos_map(rollout, faster):
    rng = random.Random(0)
    for _ in range(30):
        found, truth = scene(rng, false=0)
        exact = [(box, label) for (box, label) in truth if any(label == other for _, other in found)][: len(found)]
        assert score(rollout, exact, truth) == pytest.approx(coco(exact, truth, faster), abs=1e-9)


def test_it_is_cocos_map_with_the_false_boxes_first_and_does_not_depend_on_the_order(rollout):
    rng = random.Random(1)
    for _ in range(25):
        found, truth = scene(rng, false=2)
        exact = [(next((b for b, _ in truth if b[2:] == box[2:]), box), label) for box, label in found]
        false_first = sorted(exact, key=lambda pair: pair in truth)
        orders = [false_first, *(rng.sample(exact, len(exact)) for _ in range(5))]
        assert {score(rollout, order, truth) for order in orders} == {score(rollout, exact, truth)}
        worst = min(coco(order, truth) for order in orders)
        assert worst == coco(false_first, truth)
        assert score(rollout, exact, truth) == pytest.approx(worst, abs=1e-9)


def test_no_order_scores_lower_in_cocos_code(rollout):
    rng = random.Random(2)
    for _ in range(10):
        found, truth = scene(rng, false=1)
        orders = list(itertools.islice(itertools.permutations(found), 24))
        assert score(rollout, found, truth) <= min(coco(order, truth) for order in orders) + 1e-9


def test_a_false_box_costs_wherever_it_is_listed(rollout):
    truth = [(GRID[0], "cat"), (GRID[1], "cat")]
    false = ([100, 100, 120, 130], "cat")
    assert coco([*truth, false], truth) == pytest.approx(1.0), "free in COCO's code"
    assert coco([false, *truth], truth) == pytest.approx(2 / 3)
    assert score(rollout, [*truth, false], truth) == score(rollout, [false, *truth], truth) == pytest.approx(2 / 3)


def test_classes_that_the_reference_does_not_have_count(rollout):
    truth = [(GRID[0], "cat")]
    spam = [(box, "bird") for box in GRID[1:]]
    assert coco(truth + spam, truth) == pytest.approx(1.0), "free in COCO's code"
    assert score(rollout, truth + spam, truth) == 0.5
    assert score(rollout, [*truth, (GRID[1], "")], truth) == 0.5


def test_one_of_two_found_reaches_51_of_101_recall_levels(rollout):
    truth = [(GRID[0], "cat"), (GRID[1], "cat")]
    assert score(rollout, truth[:1], truth) == pytest.approx(51 / 101)
    assert score(rollout, truth, truth) == 1.0


def test_copies_of_a_right_box_are_false(rollout):
    truth = [(GRID[0], "cat")]
    assert score(rollout, truth * 4, truth) == pytest.approx(1 / 4)
    assert score(rollout, truth * 4, truth, length=True) == pytest.approx(1 / 16)


def test_boxes_that_are_none_are_false_too(rollout):
    truth = [(GRID[0], "cat")]
    assert score(rollout, [*truth, ([9, 9, 1, 1], "cat")], truth) == 0.5
    assert score(rollout, [*truth, ([9, 9, 1, 1], "dog")], truth) == 0.5
    assert score(rollout, [*truth, *[(GRID[1], "cat")] * 200], truth) == pytest.approx(1 / 201)


def test_one_threshold_and_length_follow_vlm_r1(rollout):
    truth = [(GRID[0], "cat")]
    loose = [([0, 0, 20, 13], "cat")]
    assert score(rollout, loose, truth, at=0.5) == 1.0
    assert score(rollout, loose, truth) == pytest.approx(4 / 10), "0.65 reaches 0.50, 0.55, 0.60 and 0.65"
    assert score(rollout, truth, truth, length=True) == 1.0
    two = [*truth, (GRID[1], "cat")]
    assert score(rollout, truth, two, length=True) == pytest.approx(51 / 101), "fewer than wanted cost no more"


@pytest.mark.parametrize("text", ["", "none", "cat", '[{"bbox_2d": [9, 9, 1, 1], "label": "cat"}]'])
def test_an_answer_without_a_good_box_scores_zero(rollout, text):
    assert DetectionMap().score([rollout(f"<answer>{text}</answer>", boxes=GRID[:1], labels=["cat"])]).scores.item() == 0


def test_nothing_to_find_and_saying_so_is_one(rollout):
    texts = ("<answer>none</answer>", "<answer>[]</answer>", "<answer>hm</answer>", f"<answer>{written([(GRID[0], 'cat')])}</answer>")
    assert DetectionMap().score([rollout(text, boxes=[], labels=[]) for text in texts]).scores.tolist() == [1, 1, 0, 0]


def test_a_batch_scores_as_its_rows_do(rollout):
    rng = random.Random(3)
    rows = []
    for _ in range(60):
        found, truth = scene(rng, false=3)
        found += [(box, rng.choice(("bird", "cat", ""))) for box in rng.sample(GRID, rng.randint(0, 2))]
        target = {"boxes": [list(box) for box, _ in truth], "labels": [label for _, label in truth]}
        rows.append(rollout(f"<answer>{written(found)}</answer>", **target))
    rows[7] = rollout("<answer>x</answer>", boxes=[[1, 2]], labels=["cat"])
    together = DetectionMap().score(rows)
    alone = [DetectionMap().score([row]) for row in rows]
    assert together.errors == [output.errors[0] for output in alone]
    assert together.errors[7]
    assert together.scores[8:].tolist() == [output.scores.item() for output in alone[8:]]


@pytest.mark.parametrize("keys", [{}, {"length": True}, {"classes": False, "at": 0.5}])
def test_no_answer_leaves_the_bounds_or_breaks(rollout, hostile, keys):
    output = DetectionMap(**keys).score([rollout(text, boxes=[[10, 10, 30, 30]], labels=["cat"]) for text in hostile])
    assert not any(output.errors)
    assert ((output.scores >= 0) & (output.scores <= 1)).all()
