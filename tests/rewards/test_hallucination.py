"""Facts of three kinds against what is in the picture, sub-sentence by sub-sentence."""

from dataclasses import dataclass

import pytest
import torch

from vlreward.advantages.stepwise import SegmentCredit
from vlreward.errors import ConfigError
from vlreward.models.detector import Detection, Detector
from vlreward.models.shape_detector import ShapeDetector
from vlreward.rewards.composite import Composite, Term
from vlreward.rewards.hallucination import Hallucination
from vlreward.tiny.scene import COLORS, SHAPES
from vlreward.tiny.tasks import make
from vlreward.types import Rollout

THINGS = [{"label": "circle", "color": "blue", "box": [0, 0, 10, 10]}, {"label": "square", "color": ["red"], "box": [50, 0, 60, 10]}]
REWARD = Hallucination(objects=("circle", "square", "dog"), attributes={"color": ("red", "blue")}, aliases={"puppy": "dog"})


def judge(rollout, text, objects=THINGS, reward=REWARD, **target):
    return reward.score([rollout(text, objects=objects, **target)])


def spans(output, text):
    return {text[segment.start : segment.end]: pytest.approx(segment.reward) for segment in output.segments[0]}


def test_true_facts_of_all_three_kinds_score_the_top(rollout):
    output = judge(rollout, "The blue circle is left of the red square.")
    assert output.scores.tolist() == [1]
    assert {kind: part.item() for kind, part in output.parts.items()} == {"existence": 1, "attribute": 1, "relation": 1}


def test_each_kind_of_hallucination_costs_its_own_part_and_its_own_sub_sentence(rollout):
    text = "A blue circle. A red dog. The square is blue. The circle is right of the square."
    output = judge(rollout, text)
    assert spans(output, text) == {
        "A blue circle.": 2 / 3, "A red dog.": -1 / 3, "The square is blue.": 0.0, "The circle is right of the square.": -1 / 3,
    }  # fmt: skip
    assert output.scores[0].item() == pytest.approx((2 / 3 - 1 / 3 + 0 - 1 / 3) / 4)
    assert [output.parts[kind].item() for kind in ("existence", "attribute", "relation")] == [pytest.approx(1 / 3), 0, -1]


def test_one_false_fact_makes_its_kind_false_in_the_sub_sentence(rollout):
    output = judge(rollout, "A circle and a dog.")
    assert output.parts["existence"].tolist() == [-1]
    assert output.scores.tolist() == [pytest.approx(-1 / 3)]


def test_weights_choose_among_the_kinds(rollout):
    only = Hallucination(objects=("circle", "dog"), attributes={"color": ("red", "blue")}, attribute=0.0, relation=0.0)
    assert judge(rollout, "A red circle.", reward=only).scores.tolist() == [1]
    assert judge(rollout, "A red dog.", reward=only).scores.tolist() == [-1]


def test_repeating_a_true_fact_gains_nothing_and_repeating_a_false_one_costs_again(rollout):
    once, twice = judge(rollout, "A circle. A dog."), judge(rollout, "A circle. A dog. A circle. A circle.")
    assert len(twice.segments[0]) == 2
    assert twice.scores[0] == once.scores[0] == 0
    assert judge(rollout, "A circle. A dog. A dog.").scores[0] < 0


def test_denials_earn_nothing_where_true_and_cost_where_false(rollout):
    assert judge(rollout, "There is no dog. No puppy, no dogs.").segments == [[]]
    assert judge(rollout, "There is no circle.").scores[0] == pytest.approx(-1 / 3)
    assert judge(rollout, "There is no red circle.").segments == [[]]


@pytest.mark.parametrize("text", ["", "It is a lovely day.", "<answer>"])
def test_a_text_without_facts_is_neutral(rollout, text):
    assert judge(rollout, text).scores.tolist() == [0]


def test_what_nothing_is_known_about_is_no_fact(rollout):
    bare = [{"label": "circle"}, {"label": "square"}]
    text = "The red circle is left of the square."
    assert {kind: part.isnan().item() for kind, part in judge(rollout, text, bare).parts.items()} == {
        "existence": False, "attribute": True, "relation": True,
    }  # fmt: skip
    known = judge(rollout, text, bare, relations=[{"subject": 1, "relation": "left of", "object": 0}])
    assert known.parts["relation"].tolist() == [-1]


def test_the_dense_credit_falls_on_the_tokens_of_the_false_sub_sentence(rollout):
    texts = ["A circle. A dog.", "A circle. A square."]
    rows = [rollout(text, objects=THINGS) for text in texts]
    table = Composite([Term(name="hallucination", weight=1.0, reward=REWARD)])(rows)
    offsets = [[(0, 9), (10, len(text))] for text in texts]
    credit = SegmentCredit(steps=("hallucination",)).tokens(table, torch.zeros(2, dtype=torch.int64), offsets)
    assert credit[0, 1] < 0 < credit[0, 0]
    assert credit[0, 0] == credit[1, 0] == credit[1, 1]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"objects": "circle"}, "target.objects is 'circle'"),
        ({"objects": ["circle"]}, "target.objects[0] is 'circle'"),
        ({"objects": [{"label": "circle", "box": [5, 5, 1, 1]}]}, "target.objects[0].box"),
        ({"objects": [{"label": "circle", "color": 3}]}, "target.objects[0].color is 3"),
        ({"objects": THINGS, "relations": 4}, "target.relations is 4"),
        ({"objects": THINGS, "relations": [{"subject": 0, "relation": "on", "object": 7}]}, "target.relations[0].object is 7"),
        ({"objects": THINGS, "relations": [["on"]]}, "target.relations[0] is ['on']"),
    ],
)
def test_a_broken_target_is_an_error_of_its_row_only(rollout, target, said):
    output = REWARD.score([rollout("A circle.", **target), rollout("A circle.", objects=THINGS)])
    assert said in output.errors[0]
    assert output.scores.tolist()[1] == pytest.approx(1 / 3)


def test_a_reward_without_words_or_weights_is_refused():
    with pytest.raises(ConfigError, match="objects"):
        Hallucination(objects=())
    with pytest.raises(ConfigError, match="existence"):
        Hallucination(objects=("dog",), existence=0, attribute=0, relation=0)


@dataclass(kw_only=True)
class Sees(Detector):
    """A sure red circle and an unsure dog."""

    def detect(self, pictures, labels):
        assert all("dog" in asked for asked in labels)
        return [[Detection("circle", "red", (0, 0, 9, 9), 0.9), Detection("dog", "", (0, 0, 9, 9), 0.3)] for _ in pictures]


def test_a_detector_stands_in_for_known_objects(rollout, white):
    reward = Hallucination(objects=("circle", "dog"), attributes={"color": ("red", "blue")}, detector=Sees())
    assert reward.needs == ("text", "visual")
    output = reward.score([rollout(text, visuals=(white,)) for text in ("A red circle.", "A blue circle.", "A dog.")])
    assert output.scores.tolist() == pytest.approx([2 / 3, 0, -1 / 3])
    assert reward.score([rollout("A red circle.")]).scores.isnan().all()


def test_true_reports_of_the_tiny_world_hold_by_target_and_by_detector():
    words = {"objects": SHAPES, "attributes": {"color": tuple(COLORS)}}
    samples = [make("reports", seed) for seed in range(8)]
    rows = [Rollout(sample=s, text=". ".join(f"{o['color']} {o['label']}" for o in s.target["objects"])) for s in samples]
    for reward in (Hallucination(**words), Hallucination(**words, detector=ShapeDetector())):
        assert reward.score(rows).scores.tolist() == pytest.approx([2 / 3] * 8)
