import random

import numpy as np
import pytest

from vlreward.rewards.looking import MAX_BOXES, UncertainLook
from vlreward.types import Rollout, Sample

SURE, UNSURE, OTHER = [0, 0, 20, 20], [50, 50, 70, 70], [80, 10, 90, 20]


def group(answers, looks=None, number=0, **target) -> list[Rollout]:
    sample = Sample(id="s", prompt="p", target={"size": [100, 100]} | target)
    looks = looks or [[]] * len(answers)
    texts = [f"<think>.</think><look>{look}</look><answer>{boxes}</answer>" for boxes, look in zip(answers, looks, strict=True)]
    return [Rollout(sample=sample, text=text, group=number) for text in texts]


def scores(*args, reward=None, **keys) -> list[float]:
    output = (reward or UncertainLook()).score(group(*args, **keys))
    assert not any(output.errors), output.errors
    return output.scores.tolist()


HALF = [[SURE, UNSURE], [SURE, UNSURE], [SURE], [SURE], [SURE]]


def test_looking_at_what_the_others_disagree_on_scores_the_top():
    looks = [[UNSURE], [SURE], [], [[0, 0, 100, 100]], [UNSURE, SURE]]
    found = scores(HALF, looks)
    assert found[0] == pytest.approx(1 - 0.1 * 400 / 10_000)
    assert found[4] == pytest.approx(1 - 0.1 * 800 / 10_000)
    assert found[1] == found[2] == 0
    assert found[3] == 0, "the whole picture has an IoU of 0.04 and costs 0.1"


def test_a_worked_doubt():
    """Of three others two list a box, apart by 2 pixels in x: p = 2/3, s^2 = (1 + 0 + 1 + 0) / 4 / 400."""
    answers = [[], [[0, 0, 20, 20]], [[2, 0, 22, 20]], []]
    boxes = [np.array(answer, dtype=float).reshape(-1, 4) for answer in answers]
    centres, doubts = UncertainLook().doubts(boxes)[0]
    assert centres.tolist() == [[1, 0, 21, 20]]
    assert doubts == pytest.approx([2 / 9 + 0.5 / 400])


def test_ones_own_boxes_make_nothing_uncertain():
    assert np.isnan(scores([[SURE, OTHER], [SURE], [SURE]], [[OTHER], [], []])[0])
    found = scores([[SURE, OTHER], [SURE], [SURE]], [[], [OTHER], [OTHER]])
    assert np.isnan(found[0])
    assert found[1] > 0.9


def test_where_all_agree_there_is_nothing_to_look_at():
    assert np.isnan(scores([[SURE]] * 4, [[SURE]] * 4)).all()
    assert np.isnan(scores([[]] * 4)).all()
    assert np.isnan(scores([[SURE], []], [[SURE], [SURE]])).all(), "one other answer cannot disagree with itself"


def test_many_regions_are_divided_and_areas_cost():
    spam = [[x, y, x + 20, y + 20] for x in range(0, 80, 10) for y in range(0, 80, 10)]
    found = scores(HALF, [[UNSURE], spam, [UNSURE] * MAX_BOXES * 2, [], []])
    assert found[1] < 0.05
    assert found[2] < 0.05
    free = scores(HALF, [[UNSURE], [], [], [], []], reward=UncertainLook(area=0.0))
    assert free[0] == 1.0


def test_neither_order_nor_the_other_groups_of_a_batch_matter():
    rows = group(HALF, [[UNSURE], [SURE], [], [OTHER], []], number=1)
    others = group([[SURE], [], [OTHER]], [[SURE], [OTHER], []], number=2)
    alone = UncertainLook().score(rows).scores
    mixed = [row for pair in zip(rows, [*others, *others[:2]]) for row in pair]
    assert UncertainLook().score(mixed).scores[::2].tolist() == alone.tolist()
    order = [4, 2, 0, 1, 3]
    assert UncertainLook().score([rows[i] for i in order]).scores.tolist() == pytest.approx(alone[order].tolist(), nan_ok=True)


def test_the_last_look_counts_and_none_is_no_look():
    rows = group(HALF)
    rows[0] = Rollout(sample=rows[0].sample, text=f"<look>{SURE}</look><look>{UNSURE}</look><answer>{SURE} {UNSURE}</answer>")
    rows[1] = Rollout(sample=rows[0].sample, text=f"<look>{UNSURE}<answer>{SURE} {UNSURE}</answer>")
    found = UncertainLook().score(rows).scores
    assert found[0] > 0.9
    assert found[1] == 0


def test_without_the_pictures_size_a_row_is_broken():
    rows = group(HALF, size=None)
    assert "needs the picture or target.size" in UncertainLook().score(rows).errors[0]


def test_no_answer_leaves_the_bounds_or_breaks(hostile):
    rng = random.Random(0)
    sample = Sample(id="s", prompt="p", target={"size": [100, 100]})
    texts = [f"{text}<look>{rng.choice(hostile)}</look>" if rng.random() < 0.5 else text for text in hostile]
    output = UncertainLook().score([Rollout(sample=sample, text=text, group=i // 8) for i, text in enumerate(texts)])
    assert not any(output.errors)
    known = output.scores[~output.scores.isnan()]
    assert len(known) > 500
    assert ((known >= 0) & (known <= 1)).all()
