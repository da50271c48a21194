"""A rule beside a model by confidence, and length around a reference."""

import math
from dataclasses import dataclass, replace

import pytest

from vlreward.errors import ConfigError, DataError
from vlreward.rewards.answers import AnswerFormat, ExactMatch
from vlreward.rewards.base import Reward
from vlreward.rewards.given import SampleNumber
from vlreward.rewards.hybrid import ConfidentMix, LengthPenalty
from vlreward.rewards.lengths import TextLength


@dataclass(kw_only=True)
class Model(Reward):
    """0.6 for any text, NaN for 'silent', broken for 'crash'; keeps what it was asked about."""

    kind = "model"

    def __post_init__(self):
        self.asked = []

    def one(self, rollout) -> float:
        self.asked.append(rollout.text)
        if rollout.text == "crash":
            raise DataError("no idea")
        return math.nan if rollout.text == "silent" else 0.6


def mix(**keys):
    return ConfidentMix(rule=ExactMatch(tags=False), model=Model(), **keys)


@pytest.mark.parametrize(("sure", "right", "wrong"), [(1.0, 1.0, 0.0), (0.5, 0.8, 0.3), (0.0, 0.6, 0.6)])
def test_the_rule_counts_by_its_confidence_and_the_model_for_the_rest(rollout, sure, right, wrong):
    rows = [rollout(text, answer="red", sure=sure) for text in ("red", "blue")]
    assert mix(confidence=SampleNumber(key="sure")).score(rows).scores.tolist() == pytest.approx([right, wrong])


def test_a_rule_that_does_not_apply_leaves_it_to_the_model_and_the_other_way_round(rollout):
    reward = mix(confidence=SampleNumber(key="sure"))
    rows = [rollout("red"), rollout("silent", answer="silent", sure=0.3), rollout("silent"), rollout("red", answer="red")]
    assert reward.score(rows).scores.tolist() == pytest.approx([0.6, 1, math.nan, 1], nan_ok=True)


def test_the_model_is_only_asked_where_the_rule_is_not_sure(rollout):
    reward = mix(confidence=AnswerFormat())
    reward.score([rollout("<answer>red</answer>", answer="red"), rollout("red", answer="red")])
    assert reward.model.asked == ["red"]


def test_what_breaks_breaks_its_row_only(rollout):
    rows = [rollout("crash"), rollout("red", answer="red", sure=7), rollout("red", answer=""), rollout("red", answer="red", sure=1)]
    output = mix(confidence=SampleNumber(key="sure")).score(rows)
    assert output.errors[0] == "no idea"
    assert "a confidence of 7" in output.errors[1]
    assert "target.answer" in output.errors[2]
    assert output.errors[3] is None
    assert output.scores[3] == 1


def test_rule_and_model_lie_within_0_and_1():
    with pytest.raises(ConfigError, match="ranges over"):
        ConfidentMix(rule=TextLength(), model=Model())


def costs(rollout, counts, group=0, **keys):
    rows = [replace(rollout("x", length=10), num_tokens=count, group=group) for count in counts]
    return LengthPenalty(**keys).score(rows).scores.tolist()


def test_length_costs_by_its_excess_over_the_reference_and_no_more_than_one(rollout):
    assert costs(rollout, [0, 10, 12, 15, 20, 999], reference=10) == pytest.approx([0, 0, -0.2, -0.5, -1, -1])
    assert costs(rollout, [12, 15, 20], reference=10, slack=0.2) == pytest.approx([0, -0.3, -0.8])
    assert costs(rollout, [12, 15], reference=10, power=2.0) == pytest.approx([-0.04, -0.25])
    assert costs(rollout, [12, 15], reference="target", power=0.5) == pytest.approx([-(0.2**0.5), -(0.5**0.5)])


def test_too_short_a_text_costs_where_it_is_asked_to(rollout):
    assert costs(rollout, [0, 5, 8, 10], reference=10, slack=0.2, short=0.5) == pytest.approx([-0.4, -0.15, 0, 0])


def test_a_group_is_its_own_reference(rollout):
    assert LengthPenalty(reference="group").scope == "group"
    assert costs(rollout, [5, 15, 10], reference="group") == pytest.approx([0, -0.5, 0])
    assert costs(rollout, [10], reference="group") == [0]


def test_uncounted_tokens_and_bad_targets_break_their_row_only(rollout):
    rows = [rollout("x", length=10), replace(rollout("x", length=-1), num_tokens=3), replace(rollout("x", length=3), num_tokens=3)]
    output = LengthPenalty(reference="target").score(rows)
    assert "nobody counted" in output.errors[0]
    assert "target.length is -1" in output.errors[1]
    assert output.scores[2] == 0
