"""Columns for the advantages: what the data says of a sample, and how sure the policy was."""

import math
from dataclasses import replace

import pytest

from vlreward.rewards.confidence import TextLikelihood
from vlreward.rewards.given import SampleNumber


def test_the_number_of_the_sample_is_the_score_whatever_is_answered(rollout):
    rows = [rollout("", rate=2), rollout("spam " * 99, rate="2"), rollout(None, rate=-0.5)]
    scores = SampleNumber(key="rate").score(rows).scores
    assert scores.tolist() == [2, 2, -0.5]


@pytest.mark.parametrize("wrong", ["two", "", True, [1], math.nan, "inf", pytest.param(10**400, id="huge")])
def test_what_is_no_number_is_broken_data_in_its_row_only(wrong, rollout):
    output = SampleNumber(key="rate").score([rollout("x", rate=wrong), rollout("x", rate=1.0)])
    assert "target.rate is" in output.errors[0]
    assert output.scores.tolist()[1] == 1


def test_a_sample_without_the_number_is_nan(rollout):
    output = SampleNumber(key="rate").score([rollout("x")])
    assert math.isnan(output.scores[0])
    assert output.errors == [None]
    assert SampleNumber(key="rate").needs == ("target.rate",)
    assert SampleNumber(key="level").needs == ("target.level",)


def test_likelihood_is_what_the_policy_kept(rollout):
    assert TextLikelihood().score([replace(rollout("x"), likelihood=p) for p in (0.0, 0.25, 1.0)]).scores.tolist() == [0, 0.25, 1]


def test_a_text_whose_probabilities_nobody_kept_is_a_broken_judge(rollout):
    output = TextLikelihood().score([rollout("x"), replace(rollout("x"), likelihood=0.5), rollout(None)])
    assert "nobody kept the probabilities" in output.errors[0]
    assert output.scores.tolist()[1] == 0.5
    assert output.errors[2] is None


def test_a_likelihood_outside_of_its_range_is_a_broken_judge(rollout):
    assert TextLikelihood().score([replace(rollout("x"), likelihood=1.5)]).errors[0] is not None
