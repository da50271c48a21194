"""Criteria with penalties, and the rules that feed them: contradictions and refusals."""

import math

import pytest

from vlreward.errors import ConfigError
from vlreward.rewards.answers import AnswerFormat, ExactMatch
from vlreward.rewards.consistency import Contradiction, Refusal
from vlreward.rewards.criteria import Criteria, Criterion, Penalty
from vlreward.rewards.hallucination import Hallucination
from vlreward.rewards.lengths import TextLength
from vlreward.rewards.shaping import Rank

THINGS = [{"label": "cat", "color": "red", "box": [0, 0, 9, 9]}, {"label": "dog", "box": [20, 0, 30, 9]}]
WORDS = {"objects": ("cat", "dog", "cow"), "attributes": {"color": ("red", "blue")}}
SAFE = Criteria(
    criteria={"right": Criterion(by=ExactMatch(), weight=3.0), "safe": Criterion(by=Refusal(), weight=1.0)},
    penalties={
        "invented": Penalty(by=Hallucination(**WORDS), cost=0.5),
        "contradicted": Penalty(by=Contradiction(**WORDS), cost=0.25),
    },
)


def score(rollout, text, reward=SAFE, **target):
    output = reward.score([rollout(text, **({"answer": "red", "unsafe": False, "objects": THINGS} | target))])
    assert output.errors == [None]
    return output.scores.item()


def test_a_right_true_and_consistent_answer_scores_the_top(rollout):
    assert score(rollout, "The red cat is left of the dog.<answer>red</answer>") == 1


def test_a_hallucination_costs_by_how_far_it_pulls_the_text_from_true(rollout):
    """A false thing alone is -1/3 in [-1, 1], which is 1/3 in [0, 1]: two thirds of the cost."""
    assert score(rollout, "A cow.<answer>red</answer>") == pytest.approx(1 - 0.5 * 2 / 3)


def test_weights_make_the_mean_and_each_penalty_takes_its_cost(rollout):
    only = Criteria(criteria=SAFE.criteria)
    assert score(rollout, "<answer>blue</answer>", reward=only) == 0.25
    base = Criteria(criteria=SAFE.criteria, penalties={"contradicted": SAFE.penalties["contradicted"]})
    assert score(rollout, "cat left of dog. dog left of cat.<answer>red</answer>", reward=base) == 0.75


def test_a_criterion_that_does_not_apply_leaves_the_mean_and_such_a_penalty_costs_nothing(rollout):
    output = SAFE.score([rollout("<answer>red</answer>", answer="red"), rollout("<answer>red</answer>", objects=THINGS)])
    assert output.scores[0] == 1
    assert math.isnan(output.scores[1])
    assert output.parts["safe"].isnan().all()


def test_nothing_falls_below_the_lowest_score(rollout):
    harsh = Criteria(criteria={"right": Criterion(by=ExactMatch())}, penalties={"format": Penalty(by=AnswerFormat(), cost=9.0)}, low=-0.5)
    assert harsh.bounds == (-0.5, 1)
    assert score(rollout, "nonsense", reward=harsh) == -0.5


def test_a_judge_that_breaks_breaks_the_row_only(rollout):
    rows = [rollout("<answer>red</answer>", answer="red", objects="cats"), rollout("<answer>red</answer>", answer="red")]
    output = SAFE.score(rows)
    assert "target.objects" in output.errors[0]
    assert math.isnan(output.scores[0])
    assert output.scores[1] == 1


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"criteria": {}}, "is empty"),
        ({"criteria": {"a": Criterion(by=TextLength())}}, "finite bounds"),
        ({"criteria": {"a": Criterion(by=Rank(of=ExactMatch()))}}, "compares rollouts"),
        ({"criteria": {"a": Criterion(by=ExactMatch())}, "penalties": {"a": Penalty(by=AnswerFormat())}}, "name of a criterion"),
        ({"criteria": {"a": Criterion(by=ExactMatch())}, "low": 0.5}, "expected at most 0"),
    ],
)
def test_what_cannot_be_mixed_is_refused(keys, said):
    with pytest.raises(ConfigError, match=said):
        Criteria(**keys)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The cat is left of the dog. The dog is right of the cat.", 1),
        ("The cat is left of the dog. The dog is left of the cat.", 0),
        ("The red cat is left of the dog. The dog is left of the blue cat.", 1),
        ("The cat is behind the dog, the dog is behind the cow. The cow is behind the cat.", 0),
        ("cat [0, 0, 9, 9]. dog [20, 0, 30, 9]. The dog is left of the cat.", 0),
        ("cat is 3 m away. dog is 5 m away. The dog is closer than the cat.", 0),
        ("There is a cat. There is no cat.", 0),
        ("There is a red cat. There is no blue cat.", 1),
        ("The cat faces left. The cat is facing right.", 0),
        ("", 1),
        ("The cow and the cow.", 1),
    ],
)
def test_a_text_that_says_two_things_that_cannot_both_be_is_a_contradiction(rollout, text, wanted):
    assert score(rollout, text, reward=Contradiction(**WORDS)) == wanted


@pytest.mark.parametrize(("answer", "wanted"), [("yes", 1), ("no", 0), ("maybe", 1)])
def test_a_conclusion_against_the_reasons_is_a_contradiction(rollout, answer, wanted):
    question = {"subject": "cat", "relation": "left of", "object": "dog"}
    text = f"cat [0, 0, 9, 9]. dog [20, 0, 30, 9].<answer>{answer}</answer>"
    assert score(rollout, text, reward=Contradiction(**WORDS), question=question) == wanted


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("<think>Dangerous.</think> I cannot assist with this request.", True),
        ("<think>I can't see it well.</think><answer>It is red.</answer>", False),
        ("Sure, here is how.", False),
        ("The can is red.", False),
    ],
)
def test_refusing_is_right_where_the_sample_is_unsafe_and_wrong_where_it_is_not(rollout, text, refuses):
    assert score(rollout, text, reward=Refusal(), unsafe=True) == float(refuses)
    assert score(rollout, text, reward=Refusal(), unsafe=False) == float(not refuses)


def test_an_empty_answer_is_wrong_either_way_and_other_labels_are_broken_data(rollout):
    assert [score(rollout, "<answer> </answer>", reward=Refusal(), unsafe=unsafe) for unsafe in (True, False)] == [0, 0]
    assert "target.unsafe is 1" in Refusal().score([rollout("x", unsafe=1)]).errors[0]
    with pytest.raises(ConfigError, match="no regular expression"):
        Refusal(phrases=("(",))
