import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from vlreward.data.media import Clip, Picture
from vlreward.models.detector import Detection, Detector
from vlreward.rewards.motions import CountOverTime, MotionMatch, MotionSmoothness
from vlreward.tiny.motion import glide
from vlreward.tiny.scene import Thing, draw
from vlreward.tiny.tasks import make
from vlreward.types import Rollout, Sample

RIGHT = {"motions": [{"label": "circle", "color": "red", "direction": "right"}]}
ONE = {"objects": [{"label": "circle", "color": "red", "count": 1}]}


def clip(*frames: tuple[Thing, ...], side: int = 32) -> Clip:
    return Clip(torch.stack([Picture(draw(things, side, side)).tensor for things in frames]))


def at(x: float, y: float = 0.5, color: str = "red", shape: str = "circle") -> Thing:
    return Thing(color, shape, x, y, 0.3)


def score(reward, made, target) -> float:
    output = reward.score([Rollout(sample=Sample(id="s", prompt="p", target=target), made=made)])
    assert output.errors == [None], output.errors
    return output.scores.item()


def crossing(*places: float) -> Clip:
    return clip(*((at(x),) for x in places))


@pytest.mark.parametrize("task", ["glides", "new_glides"])
def test_the_tiny_worlds_own_clips_are_right_and_anothers_are_not(task):
    views = [glide(random.Random(seed), task == "new_glides") for seed in range(40)]
    rows = [Rollout(sample=Sample(id="s", prompt="", target=a.target), made=b.clip()) for a, b in zip(views, views[1:] + views[:1])]
    assert MotionMatch().score(rows).scores.mean() < 0.3
    own = [replace(row, made=view.clip()) for row, view in zip(rows, views)]
    for reward in (MotionMatch(), MotionSmoothness(), CountOverTime()):
        assert reward.score(own).scores.min() > 0.75
    assert MotionMatch().score(own).scores.mean() > 0.99


def test_new_kinds_are_others_of_which_each_word_was_seen():
    kinds = {new: {make(task, seed).prompt for seed in range(600)} for new, task in ((False, "glides"), (True, "new_glides"))}
    assert (len(kinds[False]), len(kinds[True])) == (18, 6)
    assert not kinds[False] & kinds[True]
    seen, new = ({word for prompt in group for word in prompt.split()} for group in kinds.values())
    assert new <= seen


def test_each_demand_is_a_term():
    moving = crossing(0.2, 0.3, 0.4, 0.5, 0.6)
    assert score(MotionMatch(), moving, RIGHT) == pytest.approx(1.0)
    assert score(MotionMatch(), moving, {"motions": [RIGHT["motions"][0] | {"direction": "left"}]}) == pytest.approx(2 / 3)
    assert score(MotionMatch(), moving, {"motions": [{"label": "circle", "direction": "right"}]}) == pytest.approx(1.0)
    assert score(MotionMatch(), moving, {"motions": [RIGHT["motions"][0] | {"color": "blue"}]}) == 0.0
    gone = clip((at(0.2),), (at(0.3),), (), (), ())
    assert score(MotionMatch(), gone, RIGHT) == pytest.approx((2 / 5 + 1 / 4 + 2 / 5) / 3)


def test_standing_still_earns_nothing_for_motion_and_is_right_where_it_is_asked_for():
    still = crossing(0.5, 0.5, 0.5, 0.5)
    assert score(MotionMatch(), still, RIGHT) == pytest.approx(2 / 3)
    assert score(MotionMatch(), still, {"motions": [RIGHT["motions"][0] | {"direction": "still"}]}) == 1.0
    assert score(MotionSmoothness(), still, ONE) == 0.0


def test_jumps_trembling_and_drifting_do_not_pass_for_motion():
    smooth = crossing(0.2, 0.3, 0.4, 0.5, 0.6)
    jump, tremble = crossing(0.2, 0.2, 0.6, 0.6, 0.6), crossing(0.3, 0.4, 0.3, 0.4, 0.3)
    drift = clip(*((at(0.2 + 0.1 * k, 0.2 + 0.1 * k),) for k in range(5)))
    parts = [3 * score(MotionMatch(), made, RIGHT) - 2 for made in (smooth, jump, tremble, drift)]
    assert parts == pytest.approx([1, 1 / 4, 0, 0], abs=0.01)
    assert [score(MotionSmoothness(), made, ONE) for made in (jump, tremble)] == pytest.approx([0, 0], abs=0.1)
    assert score(MotionSmoothness(), smooth, ONE) > 0.8
    assert score(MotionSmoothness(), drift, ONE) > 0.8, "which way does not count for smoothness"


def test_copies_along_the_way_cost():
    copies = clip(*[(at(0.2), at(0.6))] * 5)
    assert score(MotionMatch(), copies, RIGHT) == pytest.approx((0 + 0 + 1 / 2) / 3)
    other = clip(*((at(x, 0.25), at(0.5, 0.8, "blue", "square")) for x in (0.2, 0.3, 0.4)))
    assert score(MotionMatch(), other, RIGHT) == pytest.approx((1 + 1 + 1 / 2) / 3)


def test_smoothness_by_hand():
    reward = MotionSmoothness()
    points = [np.array([x, 0.0]) for x in (0.0, 0.1, 0.2, 0.4)]
    assert reward._smoothness(points[:3]) == pytest.approx(1.0)
    assert reward._smoothness(points) == pytest.approx(1 - 0.1 / (0.1 + 0.15))
    assert reward._smoothness([*points[:3], None]) == pytest.approx(1 / 2), "one of two runs"
    assert reward._smoothness([points[0], None, points[1]]) == 0.0
    assert MotionSmoothness().score([Rollout(sample=Sample(id="s", prompt="", target=ONE), made=crossing(0.2, 0.3))]).scores.isnan().all()


def test_counts_hold_over_time_and_may_change_where_that_is_asked_for():
    two = (at(0.2), at(0.8))
    wanted = {"objects": [{"label": "circle", "count": [1, 2]}]}
    assert score(CountOverTime(), clip((at(0.2),), (at(0.2),), two, two), wanted) == 1.0
    assert score(CountOverTime(), clip(two, two, two, two), wanted) == pytest.approx((0 + 0 + 1 + 1) / 4 * 2 / 3)
    assert score(CountOverTime(), clip((), ()), {"objects": [{"label": "circle", "count": 0}]}) == 1.0


def test_flickering_costs_more_than_the_frames_it_misses():
    flicker = clip((at(0.5),), (), (at(0.5),), (), (at(0.5),))
    assert score(CountOverTime(), flicker, ONE) == 0.0
    assert score(CountOverTime(), clip((at(0.5),), (at(0.5),), (at(0.5),), (), ()), ONE) == pytest.approx(3 / 5 * 3 / 4)


def test_a_picture_is_a_clip_of_one_frame():
    picture = Picture(draw((at(0.5),), 32, 32))
    assert score(MotionMatch(), picture, RIGHT) == pytest.approx(2 / 3)
    assert score(CountOverTime(), picture, ONE) == 1.0


@pytest.mark.parametrize(
    ("reward", "target", "problem"),
    [
        (MotionMatch, {"motions": [{"label": "circle", "direction": "away"}]}, r"target.motions\[0\].direction is 'away'"),
        (MotionMatch, {"motions": "right"}, "target.motions is 'right', expected a list"),
        (CountOverTime, {"objects": [{"label": "circle", "count": [1, -1]}]}, r"target.objects\[0\].count is \[1, -1\]"),
        (MotionSmoothness, {"objects": [{"color": "red"}]}, r"target.objects\[0\] is .* expected a mapping with a 'label'"),
    ],
)
def test_a_target_that_makes_no_sense_is_the_rows_error(reward, target, problem):
    row = Rollout(sample=Sample(id="s", prompt="", target=target), made=crossing(0.2, 0.3, 0.4))
    good = Rollout(sample=Sample(id="s", prompt="", target=RIGHT | ONE), made=row.made)
    output = reward().score([row, good])
    assert output.errors[1] is None
    with pytest.raises(AssertionError, match=problem):
        assert output.errors[0] is None, output.errors[0]


def test_a_detector_without_colors_is_the_judges_fault_where_a_color_is_asked_for():
    class Blind(Detector):
        def detect(self, pictures, labels):
            return [[Detection("circle", "", (0, 0, 9, 9), 0.9)] for _ in pictures]

    output = MotionMatch(detector=Blind()).score([Rollout(sample=Sample(id="s", prompt="", target=RIGHT), made=crossing(0.2, 0.3))])
    assert "the detector tells none" in (output.errors[0] or "")
