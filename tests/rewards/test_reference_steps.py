"""Steps against a reference."""

from __future__ import annotations

import pytest

from vlreward.rewards.reference_steps import ReferenceSteps
from vlreward.types import Rollout, Sample


def judged(text: str, wanted: object = "OPEN", **keys):
    reward = ReferenceSteps(**{"part": "character"} | keys)
    output = reward.score([Rollout(sample=Sample(id="", prompt="?", target={"answer": wanted}), text=text)])
    return output, [(segment.start, segment.end, segment.reward) for segment in output.segments[0]]


def test_the_reference_itself_is_right_at_every_step():
    output, segments = judged("<answer>OPEN</answer>")
    assert output.scores.tolist() == [1.0]
    assert segments == [(8, 9, 1.0), (9, 10, 1.0), (10, 11, 1.0), (11, 12, 1.0)]


def test_steps_count_up_to_the_first_that_differs():
    output, segments = judged("<answer>OPAN</answer>")
    assert output.scores.tolist() == [0.5]
    assert [reward for *_, reward in segments] == [1.0, 1.0, 0.0, 0.0], "a right letter behind a wrong one is no right step"


@pytest.mark.parametrize(
    ("text", "score"),
    [("<answer>OP</answer>", 0.5), ("<answer>OPENOPEN</answer>", 0.5), ("<answer>POEN</answer>", 0), ("<answer></answer>", 0), ("OPEN", 0)],
)
def test_breaking_off_and_padding_cost_and_no_tag_is_no_answer(text, score):
    assert judged(text)[0].scores.tolist() == [score]


def test_words_and_lines_are_compared_without_the_whitespace_between_them():
    assert judged("a  b\tc", "a b c", part="word", tags=False)[0].scores.tolist() == [1.0]
    output, segments = judged("x = 1\n\n  y = 2\nz", "x = 1\ny = 2\ny = 3", part="line", tags=False)
    assert output.scores.tolist() == pytest.approx([2 / 3])
    assert segments == [(0, 5, 1.0), (9, 14, 1.0), (15, 16, 0.0)]


def test_a_reference_without_steps_is_an_error_of_the_data():
    for wanted in ("", " ", 3, ["a"]):
        output, _ = judged("<answer>a</answer>", wanted)
        assert "expected a text with at least one character" in (output.errors[0] or "")
    assert judged("<answer>a</answer>", None)[0].scores.isnan().all(), "no reference, no score"
