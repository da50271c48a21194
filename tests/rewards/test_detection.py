import itertools
import json
import random

import numpy as np
import pytest

from vlreward.rewards.detection import CompleteDetection, DetectionF1, DetectionFormat, DetectionScore, PrecisionRecall
from vlreward.rewards.overlap import pairwise_iou

BOXES = [[0, 0, 10, 10], [20, 20, 40, 40], [60, 0, 90, 30]]
LABELS = ["cat", "dog", "cat"]
MATCHED = [
    DetectionF1(),
    DetectionF1(soft=True),
    DetectionScore(),
    PrecisionRecall(),
    PrecisionRecall(mean="harmonic"),
    CompleteDetection(),
]


def written(boxes, labels) -> str:
    return json.dumps([{"bbox_2d": list(box), "label": label} for box, label in zip(boxes, labels, strict=True)])


def score(reward, rollout, text: str, boxes=BOXES, labels=LABELS) -> float:
    output = reward.score([rollout(f"<answer>{text}</answer>", boxes=boxes, labels=labels)])
    assert output.errors == [None], output.errors
    return output.scores.item()


@pytest.mark.parametrize("reward", MATCHED)
def test_the_exact_boxes_score_one_in_any_order_and_syntax(rollout, reward):
    for order in itertools.permutations(range(3)):
        text = written([BOXES[i] for i in order], [LABELS[i] for i in order])
        assert score(reward, rollout, text) == pytest.approx(1.0)
    assert score(reward, rollout, "cat(0,0),(10,10) Dog (20,20),(40,40) CAT: [60, 0, 90, 30]") == pytest.approx(1.0)


@pytest.mark.parametrize("reward", MATCHED)
@pytest.mark.parametrize(
    "text", ["", "none", "[]", "a cat and a dog", '[{"label": "cat"}]', "[[1, 2, 3]]", '[{"bbox_2d": [9, 9, 1, 1], "label": "cat"}]']
)
def test_an_answer_without_a_good_box_scores_zero(rollout, reward, text):
    assert score(reward, rollout, text) == 0.0


@pytest.mark.parametrize("reward", MATCHED)
def test_where_there_is_nothing_only_saying_so_counts(rollout, reward):
    for text, wanted in (("[]", 1), ("none", 1), ("```json\n[]\n```", 1), ("", 0), ("no objects", 0), (written(BOXES[:1], ["cat"]), 0)):
        assert score(reward, rollout, text, [], []) == wanted, text


@pytest.mark.parametrize(
    ("reward", "wanted"),
    [
        (DetectionF1(), 2 * 1 / (2 + 3)),
        (DetectionF1(soft=True), 2 * 0.8 / (2 + 3)),
        (DetectionF1(at=0.9), 0),
        (DetectionScore(), 0.7 * 0.8 / 3 + 0.3 * (1 - (2 / 3 + 1 / 2) / 2)),
        (PrecisionRecall(), (1 / 2 + 1 / 3) / 2),
        (PrecisionRecall(precision=0.9), 0.9 / 2 + 0.1 / 3),
        (PrecisionRecall(mean="harmonic"), 0.4),
        (CompleteDetection(), 0.2 + 0.8 / 3 / 2),
    ],
)
def test_a_worked_middle_case(rollout, reward, wanted):
    """Two answered, one of them found with IoU 0.8, three wanted."""
    assert score(reward, rollout, written([[0, 0, 10, 8], [50, 50, 60, 60]], ["cat", "dog"])) == pytest.approx(wanted)


@pytest.mark.parametrize("reward", MATCHED)
def test_a_wrong_or_missing_label_is_a_miss_and_a_false_alarm(rollout, reward):
    assert score(reward, rollout, written(BOXES, ["dog", "cat", "dog"])) == 0.0, "the published weighted_sum pays 0.3 for this"
    assert score(reward, rollout, json.dumps([{"bbox_2d": box} for box in BOXES])) == 0.0, "and breaks or guesses here"
    one = written(BOXES[:1], LABELS[:1])
    both = written([BOXES[0]] * 3, ["cat", "dog", "bird"])
    assert score(reward, rollout, both, BOXES[:1], LABELS[:1]) < score(reward, rollout, one, BOXES[:1], LABELS[:1])


@pytest.mark.parametrize("reward", MATCHED)
def test_junk_never_raises_a_score(rollout, reward):
    rng = random.Random(0)
    for _ in range(60):
        chosen = rng.sample(range(3), rng.randint(0, 3))
        boxes, labels = [BOXES[i] for i in chosen], [LABELS[i] for i in chosen]
        before = score(reward, rollout, written(boxes, labels))
        junk = rng.choice(([200, 200, 210, 210], [0, 0, 300, 300], [9, 9, 1, 1], boxes[0] if boxes else [0, 50, 5, 55]))
        label = rng.choice(("cat", "dog", "bird", ""))
        after = score(reward, rollout, written([*boxes, junk], [*labels, label]))
        assert after <= before + 1e-12


def test_the_most_matches_are_found_where_a_greedy_choice_loses_one(rollout):
    wanted = [[0, 0, 10, 10], [0, 3, 10, 13]]
    answered = [[0, 1, 10, 11], [0, -3, 10, 7]]
    iou = pairwise_iou(*(np.array(b, dtype=float) for b in (answered, wanted)))
    assert iou.argmax() == 0
    assert iou[0].min() > 0.5 > iou[1, 1]
    assert score(DetectionF1(), rollout, written(answered, ["cat"] * 2), wanted, ["cat"] * 2) == 1.0


def test_one_perfect_pair_does_not_cost_a_second_match(rollout):
    wanted, answered = [[0, 10, 10, 20], [0, 15, 10, 25]], [[0, 10, 10, 20], [0, 5, 10, 15]]
    assert score(DetectionF1(at=0.3), rollout, written(answered, ["cat"] * 2), wanted, ["cat"] * 2) == 1.0


def published(pred, truth, at=0.5) -> float:
    """VLM-R1's weighted_sum from its description: the nearest pair first, wrong labels at IoU 0."""
    pairs, left, right = [], list(range(len(pred))), list(range(len(truth)))
    while left and right:
        iou, p, t = max(
            (pairwise_iou(*([np.array([b], dtype=float) for b in (pred[p][0], truth[t][0])]))[0, 0], p, t) for p in left for t in right
        )
        if iou < at:
            break
        pairs.append(iou if pred[p][1] == truth[t][1] else 0.0)
        left.remove(p), right.remove(t)
    complete = 1 - (len(right) / len(truth) + len(left) / len(pred)) / 2
    return 0.7 * sum(pairs) / len(truth) + 0.3 * complete


def test_the_detection_score_agrees_with_the_published_one_where_labels_are_right(rollout):
    rng = random.Random(0)
    for _ in range(200):
        truth = [
            ([x, y, x + 20, y + 20], "cat") for x, y in rng.sample([(x, y) for x in (0, 30, 60) for y in (0, 30, 60)], rng.randint(1, 4))
        ]
        pred = [([b[0] + rng.randint(0, 6), b[1] + rng.randint(0, 6), b[2], b[3]], "cat") for b, _ in truth if rng.random() < 0.7]
        pred += [([100, 100, 120, 130], "cat")] * (rng.random() < 0.5)
        if pred:
            got = score(DetectionScore(), rollout, written(*zip(*pred, strict=True)), *map(list, zip(*truth, strict=True)))
            assert got == pytest.approx(published(pred, truth), abs=1e-12)


def test_flooding_is_paid_by_an_arithmetic_mean_at_most_up_to_recalls_share(rollout):
    flood = [[x, y, x + 10, y + 10] for x in range(0, 100, 10) for y in range(0, 100, 10)]
    text = written(flood, ["cat"] * len(flood))
    assert score(PrecisionRecall(), rollout, text, BOXES[:1], ["cat"]) == pytest.approx(0.505)
    assert score(PrecisionRecall(mean="harmonic"), rollout, text, BOXES[:1], ["cat"]) == pytest.approx(2 / 101)
    assert score(DetectionF1(), rollout, text, BOXES[:1], ["cat"]) == pytest.approx(2 / 101)


def test_labels_can_be_ignored_or_stand_for_others(rollout):
    text = written(BOXES, ["a", "b", "c"])
    reward = DetectionF1(classes=False)
    assert reward.score([rollout(f"<answer>{text}</answer>", boxes=BOXES)]).scores.item() == 1.0
    reward = DetectionF1(aliases={"TV": "television"})
    assert score(reward, rollout, written(BOXES[:1], ["tv"]), BOXES[:1], ["Television"]) == 1.0
    assert score(DetectionF1(), rollout, written(BOXES[:1], ["tv"]), BOXES[:1], ["television"]) == 0.0


def test_without_labels_a_sample_is_nan_and_wrong_ones_are_the_datas_fault(rollout):
    text = f"<answer>{written(BOXES, LABELS)}</answer>"
    rows = [rollout(text, boxes=BOXES, labels=labels) for labels in (None, ["cat"], ["cat", "dog", ""], LABELS, "cat")]
    output = DetectionF1().score(rows)
    assert output.scores[0].isnan()
    assert output.errors[0] is None
    assert "expected a text for each of the 3 boxes" in output.errors[1]
    assert output.errors[2] and output.errors[4]
    assert output.scores[3] == 1.0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[]", 1),
        (written(BOXES, LABELS), 1),
        (f"```json\n{written(BOXES, LABELS)}\n```", 1),
        (written([*BOXES, BOXES[0]], [*LABELS, "cat"]), 3 / 4),
        (written([[5, 5, 1, 1], BOXES[0]], ["cat", "cat"]), 1 / 2),
        (written(BOXES[:1], [""]), 0),
        ('[{"bbox_2d": [0, 0, 1, 1]}]', 0),
        ("[[0, 0, 1, 1]]", 0),
        (written(BOXES, LABELS)[:-1], 0),
        (f"here: {written(BOXES, LABELS)}", 0),
        ('{"bbox_2d": [0, 0, 1, 1], "label": "cat"}', 0),
        ("", 0),
        ("[" * 9000, 0),
    ],
)
def test_the_format_counts_well_formed_entries(rollout, text, wanted):
    assert DetectionFormat().score([rollout(f"<answer>{text}</answer>")]).scores.item() == pytest.approx(wanted)


def test_the_format_without_tags_or_labels(rollout):
    assert DetectionFormat().score([rollout(written(BOXES, LABELS))]).scores.item() == 0
    assert DetectionFormat(labels=False).score([rollout('<answer>[{"bbox_2d": [0, 0, 1, 1]}]</answer>')]).scores.item() == 1


@pytest.mark.parametrize("reward", [*MATCHED, DetectionFormat(), DetectionF1(classes=False, at=0.0)])
def test_no_answer_leaves_the_bounds_or_breaks(rollout, hostile, reward):
    output = reward.score([rollout(text, boxes=BOXES, labels=LABELS) for text in hostile])
    assert not any(output.errors)
    assert ((output.scores >= 0) & (output.scores <= 1)).all()
    assert all(isinstance(note, str) for note in output.notes)
