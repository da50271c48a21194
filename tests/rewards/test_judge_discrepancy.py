"""What a picture differs in from the one it should be."""

import json

import pytest
from judges import Says, always

from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.rewards.fault_matching import PARTS
from vlreward.rewards.judge_discrepancy import JudgeDiscrepancy
from vlreward.sandbox.wall import check


def faults(*severities):
    return json.dumps({"errors": [{"category": "data", "severity": one, "location": "x", "description": "d"} for one in severities]})


def pair(rollout, white):
    return rollout(None, made=Picture(white.pil.copy()), visuals=[white])


@pytest.mark.parametrize(("severities", "score"), [([], 2), ([3, 2], 1.9), ([3] * 16 + [2], 1), ([3] * 40, 1)])
def test_severities_are_taken_off_down_to_one(rollout, white, severities, score):
    judge = Says(say=always(faults(*severities)))
    output = JudgeDiscrepancy(judge=judge).score([pair(rollout, white)])
    assert output.scores.tolist() == pytest.approx([score])
    assert output.parts["severity"].tolist() == [sum(severities)]
    assert "How it should be:\n<picture>\n\nHow it is:\n<picture>\n" in judge.asked[0]


@pytest.mark.parametrize("said", ["all is well", '{"errors": "none"}', '{"errors": [{"severity": 0}]}', "4", "[]"])
def test_an_unreadable_list_is_no_reward_at_all(rollout, white, said):
    output = JudgeDiscrepancy(judge=Says(say=always(said))).score([pair(rollout, white)])
    assert output.scores.isnan().all() and "cannot be read" in str(output.errors[0])


def test_without_a_reference_or_something_made_it_is_nan(rollout, white):
    output = JudgeDiscrepancy(judge=Says()).score([rollout(None, made=white), rollout("a", visuals=[white]), rollout("a")])
    assert output.scores.isnan().all() and output.errors == [None] * 3


FOUND = [{"type": "data_error", "severity": 2, "description": f"bar {number}"} for number in range(2)]


def matched(*matches):
    return json.dumps({"matches": [{"listed": a, "known": b, "level": level} for a, b, level in matches]})


def held(rollout, white, said, listed=3, known=FOUND):
    """What comes of a list of that many faults when the matcher says so; its questions."""
    matcher = Says(say=always(said))
    row = rollout(None, made=Picture(white.pil.copy()), visuals=[white], **({} if known is None else {"faults": known}))
    return JudgeDiscrepancy(judge=Says(say=always(faults(*[1] * listed))), matcher=matcher).score([row]), matcher.asked


def test_a_list_is_held_against_what_people_found(rollout, white):
    output, asked = held(rollout, white, matched((2, 0, "yes"), (0, 1, "partial")))
    assert {name: output.parts[name].item() for name in PARTS} == {"matched": 1, "partly": 1, "surplus": 1, "missed": 0}
    assert output.scores.item() == pytest.approx(2 - 3 / 50), "the score does not hang on the matcher"
    assert "1. type: data_error; severity: 2; description: bar 1" in asked[0] and "2. category: data; severity: 1" in asked[0]


def test_an_empty_list_needs_no_matcher_and_a_row_without_peoples_list_no_parts(rollout, white):
    output, asked = held(rollout, white, "", listed=0)
    assert [output.parts[name].item() for name in PARTS] == [0, 0, 0, 2] and not asked
    output, asked = held(rollout, white, "", known=None)
    assert output.parts["matched"].isnan().all() and output.scores.isfinite().all() and not asked


@pytest.mark.parametrize("said", ["none", matched((0, 0, "yes"), (0, 1, "yes")), matched((3, 0, "yes")), matched((0, 0, "maybe"))])
def test_an_unreadable_match_breaks_the_row(rollout, white, said):
    output, asked = held(rollout, white, said)
    assert output.scores.isnan().all() and "cannot be read" in str(output.errors[0]) and len(asked) == 2


SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><rect x="1" y="1" width="5" height="5" fill="{}"/></svg>'


def test_sources_are_drawn_and_the_drawings_compared(rollout, white):
    try:
        check()
    except ConfigError as error:
        pytest.skip(str(error))
    shown = []

    class Sees(Says):
        def ask(self, questions, sampling):
            shown.extend([part for part in question[0].parts if isinstance(part, Picture)] for question in questions)
            return super().ask(questions, sampling)

    reward = JudgeDiscrepancy(judge=Sees(say=always(faults(1))), draws="svg")
    red, blue = SVG.format("red"), SVG.format("blue")
    rows = [rollout(red, svg=red), rollout(blue, svg=red), rollout("<svg", svg=red), rollout(blue, visuals=[white]), rollout(blue)]
    output = reward.score(rows)
    assert output.scores[:4].tolist() == pytest.approx([1.98, 1.98, 0, 1.98])
    assert output.scores[4].isnan() and output.errors == [None] * 5
    assert len(shown) == 3, "what draws nothing is not shown to the judge"
    same, other, given = [bool((one.tensor == two.tensor).all()) if one.size == two.size else False for one, two in shown]
    assert same and not other and not given
