"""Comparisons of the tiny world are true: what is said of an attempt is what other judges find in it."""

import re

import numpy as np
import pytest

from vlreward.errors import ConfigError
from vlreward.rewards.motions import MotionMatch
from vlreward.rewards.objects import ObjectMatch
from vlreward.tiny.preferences import HABITS, TinyComparisons


def test_a_seed_makes_the_same_comparisons_again_and_held_out_ones_are_others():
    first, again = ([one.rollouts[1].text for one in TinyComparisons(task="reports", count=5)] for _ in range(2))
    assert first == again
    assert first != [one.rollouts[1].text for one in TinyComparisons(task="reports", count=5, holdout=True)]


def test_a_report_is_as_bad_as_its_wrong_sentences_and_aspects_say():
    for one in TinyComparisons(task="reports", count=60, answers=4):
        assert sorted(one.scores) == pytest.approx([0, 1 / 3, 2 / 3, 1])
        for rollout, score, steps, relation in zip(one.rollouts, one.scores, one.facts["steps"], one.aspects["relation"], strict=True):
            sentences = [rollout.text[start:end] for start, end, _ in steps]
            assert " " + " ".join(sentences) == rollout.text
            labels = [label for _, _, label in steps]
            assert (min(labels) == 1) == (score == 1)
            named = {f"{thing['color']} {thing['label']}." for thing in rollout.sample.target["objects"]}
            assert labels[:2] == [float(sentence in named) for sentence in sentences[:2]]
            assert labels[2] == relation


def test_the_length_of_a_report_says_nothing_of_its_truth():
    comparisons = list(TinyComparisons(task="reports", count=1500))
    gaps = [(np.diff(one.scores)[0], np.diff([rollout.text.count("is there") for rollout in one.rollouts])[0]) for one in comparisons]
    assert abs(np.corrcoef(np.array(gaps).T)[0, 1]) < 0.08


def test_with_a_length_bias_the_longer_one_is_chosen_and_the_truth_kept():
    for one in TinyComparisons(task="reports", count=40, length_bias=1.0):
        lengths = [len(rollout.text) for rollout in one.rollouts]
        if one.facts.get("biased"):
            assert one.scores == tuple(float(length == max(lengths)) for length in lengths)
        assert max(one.facts["truth"]) > min(one.facts["truth"])


def test_ties_are_equally_good():
    assert all(len(set(one.scores)) == 1 for one in TinyComparisons(task="drawings", count=20, ties=1.0))
    share = np.mean([len(set(one.scores)) == 1 for one in TinyComparisons(task="reports", count=400, ties=0.3)])
    assert 0.2 < share < 0.4


def test_a_drawing_without_mistakes_and_no_other_is_what_its_caption_says():
    judge = ObjectMatch()
    rollouts, scores = [], []
    for one in TinyComparisons(task="drawings", count=40, answers=3):
        rollouts += one.rollouts
        scores += one.scores
    found = judge.score(rollouts).scores
    agree = [(value == 1) == (score == 1) for value, score in zip(found.tolist(), scores, strict=True)]
    assert np.mean(agree) > 0.97


def test_a_clip_is_as_right_as_its_motion_matches_and_jumping_ones_go_no_way():
    seen = set()
    for one in TinyComparisons(task="clips", count=40, answers=3, side=32):
        found = MotionMatch().score(one.rollouts).scores.tolist()
        for value, score, color, direction, smoothness in zip(found, one.scores, *one.aspects.values(), strict=True):
            assert value == pytest.approx({(1, 1): 1, (1, 0): 2 / 3}.get((color, direction), 0))
            assert score == 1 - ((1 - color) + (1 - direction)) / 2
            seen.add((color, direction, smoothness))
    assert seen == {(1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0)}


def test_the_target_policy_wrote_the_reference_and_its_rollout():
    for one in TinyComparisons(task="policies", count=60):
        target, other = one.facts["policies"]
        assert {target, other} < set(HABITS)
        assert one.scores == (1.0, 0.0)
        reference = one.rollouts[0].sample.target["reference"]
        written = [one.rollouts[0].text, reference]
        if target == "wordy":
            assert all(len(re.findall("left of|right of|above|below", text)) == 2 for text in written)
        if target == "brief":
            assert all(text.replace(" is there.", "").count(".") == 1 for text in written)


@pytest.mark.parametrize(
    ("keys", "said"), [({"answers": 5}, "at most 4 ways"), ({"task": "drawings", "length_bias": 0.5}, "lengths vary in 'reports' alone")]
)
def test_what_cannot_be_made_is_refused(keys, said):
    with pytest.raises(ConfigError, match=said):
        TinyComparisons(**({"task": "reports", "count": 1} | keys))
