"""Rewards for parts of a text, which mark them as segments."""

import math
import random
from dataclasses import dataclass, replace

import pytest

from vlreward.config import part
from vlreward.errors import ConfigError, DataError
from vlreward.rewards.answers import ExactMatch
from vlreward.rewards.base import Reward
from vlreward.rewards.boxes import BoxIoU
from vlreward.rewards.lengths import TextLength
from vlreward.rewards.shaping import Rank
from vlreward.rewards.steps import EachStep, TreeSteps, steps
from vlreward.rewards.tagged import Tagged
from vlreward.rewards.wording import Repetition


@dataclass(kw_only=True)
class Honest(Reward):
    """1 for a text without the word 'not'; NaN for one with 'maybe'; broken for one with 'error'."""

    kind = "honest"
    needs = ("text",)

    def one(self, rollout) -> float:
        text = rollout.text or ""
        if "error" in text:
            raise DataError("no idea")
        return math.nan if "maybe" in text else float("not" not in text)


def spans(output, row=0):
    return [(segment.start, segment.end, segment.reward) for segment in output.segments[row]]


@pytest.mark.parametrize(
    ("text", "part", "wanted"),
    [
        ("A cat. It is red! Is it?", "sentence", ["A cat.", "It is red!", "Is it?"]),
        ("图里有猫。它是红色的！", "sentence", ["图里有猫。", "它是红色的！"]),
        ("v1.5 is out\n\n  next  ", "sentence", ["v1.5 is out", "next"]),
        ("one\ntwo\n\nthree", "line", ["one", "two", "three"]),
        ("one\ntwo\n \nthree", "paragraph", ["one\ntwo", "three"]),
        (" \n ", "line", []),
        ("", "sentence", []),
    ],
)
def test_a_text_is_cut_where_its_steps_end(text, part, wanted):
    assert [text[start:end] for start, end in steps(text, part)] == wanted


def test_each_sentence_is_judged_by_itself_and_marked(rollout):
    output = EachStep(of=Honest()).score([rollout("A cat. It is not red. It sits.")])
    assert output.scores[0].item() == pytest.approx(2 / 3)
    assert spans(output) == [(0, 6, 1.0), (7, 21, 0.0), (22, 30, 1.0)]
    assert EachStep(of=Honest(), form="minimum").score([rollout("A cat. It is not red. It sits.")]).scores[0] == 0


def test_a_step_that_the_judge_says_nothing_of_does_not_count(rollout):
    output = EachStep(of=Honest()).score([rollout("A cat. Maybe maybe. It is not red."), rollout("maybe")])
    assert output.scores[0] == 0.5
    assert [segment[2] for segment in spans(output)] == [1.0, 0.0]
    assert math.isnan(output.scores[1])


def test_a_judge_that_breaks_on_one_step_costs_its_row_only(rollout):
    output = EachStep(of=Honest()).score([rollout("Fine. An error."), rollout("Fine. Good.")])
    assert output.errors[0] == "no idea"
    assert output.segments[0] == []
    assert output.scores.tolist()[1] == 1


def test_a_text_without_steps_is_judged_as_it_is(rollout):
    output = EachStep(of=ExactMatch()).score([rollout("", answer="red"), rollout("<answer>red</answer>", answer="red")])
    assert output.scores.tolist() == [0, 1]
    assert output.segments[0] == []


def test_padding_with_safe_sentences_raises_the_mean_but_not_the_minimum(rollout):
    padded = "It is not red. " + "A cat. " * 9
    scores = {
        form: EachStep(of=Honest(), form=form).score([rollout("It is not red."), rollout(padded)]).scores.tolist()
        for form in ("mean", "minimum")
    }
    assert scores == {"mean": [0.0, pytest.approx(0.9)], "minimum": [0.0, 0.0]}


def test_nobody_counted_the_tokens_of_a_step(rollout):
    output = EachStep(of=TextLength()).score([replace(rollout("One. Two."), num_tokens=7)])
    assert "nobody counted this text's tokens" in output.errors[0]
    assert EachStep(of=TextLength(unit="words")).score([rollout("One. Two more.")]).scores[0] == 1.5


def test_a_judge_of_whole_groups_cannot_judge_steps():
    with pytest.raises(ConfigError, match="of: is 'rank', which compares whole rollouts"):
        part("rewards", {"kind": "each_step", "of": {"kind": "rank", "of": "exact_match"}})


def test_a_step_is_worth_the_mean_of_what_comes_below_it_in_the_tree(rollout):
    texts = ["a\nb\n<answer>1</answer>", "a\nb\n<answer>2</answer>", "a\nc\n<answer>1</answer>", "a\nc\n<answer>1</answer>"]
    output = TreeSteps(of=ExactMatch()).score([rollout(text, answer="1") for text in texts])
    assert output.scores.tolist() == [1, 0, 1, 1]
    assert [segment[2] for segment in spans(output, 0)] == [0.75, 0.5, 1.0]
    assert [segment[2] for segment in spans(output, 1)] == [0.75, 0.5, 0.0]
    assert [segment[2] for segment in spans(output, 2)] == [0.75, 1.0, 1.0]
    assert [segment.state for segment in output.segments[0]] == ["", "a", "a\nb"]
    assert [texts[0][a:b] for a, b, _ in spans(output, 0)] == ["a", "b", "<answer>1</answer>"]


def test_a_tree_is_of_one_group_and_broken_leaves_are_no_part_of_it(rollout):
    rows = [
        rollout("a\nx", group=0),
        rollout("a\nnot", group=0),
        rollout("a\nnot", group=1),
        rollout("a\nerror", group=0),
        rollout("a\nmaybe"),
    ]
    output = TreeSteps(of=Honest()).score(rows)
    assert [segment[2] for segment in spans(output, 0)] == [0.5, 1.0]
    assert [segment[2] for segment in spans(output, 2)] == [0.0, 0.0]
    assert output.errors[3] == "no idea"
    assert output.segments[3] == output.segments[4] == []


def test_the_inside_of_the_last_tag_is_the_answer_and_is_marked(rollout):
    text = "<box>[0, 0, 1, 1]</box> <box>[10, 10, 30, 30]</box><answer>a cat</answer>"
    output = Tagged(of=BoxIoU(), tag="box").score([rollout(text, boxes=[[10, 10, 30, 30]])])
    assert output.scores[0] == 1
    [(start, end, reward)] = spans(output)
    assert text[start:end] == "[10, 10, 30, 30]"
    assert reward == 1
    assert Tagged(of=ExactMatch(), tag="answer").score([rollout(text, answer="a cat")]).scores[0] == 1


@pytest.mark.parametrize("text", ["", "red", "<color>red", "red</color>", "</color>red<color>", "<color></color>"])
def test_a_missing_or_broken_tag_is_judged_as_an_empty_answer(text, rollout):
    output = Tagged(of=ExactMatch(), tag="color").score([rollout(text, answer="red")])
    assert output.scores[0] == 0
    assert output.errors == [None]


def test_a_judge_that_says_nothing_marks_nothing(rollout):
    output = Tagged(of=Honest(), tag="c").score([rollout("<c>maybe</c>"), rollout("<c>sure</c>")])
    assert math.isnan(output.scores[0])
    assert [len(row) for row in output.segments] == [0, 1]


def test_several_tags_are_no_way_to_guess(rollout):
    assert Tagged(of=ExactMatch(), tag="c").score([rollout("<c>red</c><c>blue</c>", answer="red")]).scores[0] == 0


def test_a_broken_target_is_an_error_in_its_row_only(rollout):
    output = Tagged(of=BoxIoU(), tag="box").score(
        [rollout("<box>[1, 2, 3, 4]</box>", boxes=boxes) for boxes in ([[1, 2, 3]], [[1, 2, 3, 4]])]
    )
    assert output.errors[0] is not None
    assert output.scores[1] == 1


def test_a_tag_is_a_name_and_a_scope_is_passed_on():
    with pytest.raises(ConfigError, match="tag: is '<box>', expected a tag's name without brackets"):
        part("rewards", {"kind": "tagged", "of": "exact_match", "tag": "<box>"})
    assert Tagged(of=Rank(of=ExactMatch()), tag="a").scope == "group"


@pytest.mark.parametrize(
    "reward", [EachStep(of=Repetition()), TreeSteps(of=Repetition(), part="sentence"), Tagged(of=Repetition(), tag="a")]
)
def test_whatever_is_written_stays_in_bounds_and_marks_lie_in_the_text(reward, rollout):
    rng = random.Random(0)
    pieces = ["<a>", "</a>", ". ", "\n", "\n\n", "。", "x ", "", "🙂", "\x00", "not ", "! ", "\r", "\u2028"]
    rows = [rollout("".join(rng.choice(pieces) for _ in range(rng.randrange(12))), group=i // 4) for i in range(2000)]
    output = reward.score(rows)
    assert output.errors == [None] * len(rows)
    assert all(-1 <= score <= 0 for score in output.scores.tolist())
    for row, segments in zip(rows, output.segments, strict=True):
        assert all(0 <= s.start <= s.end <= len(row.text) and -1 <= s.reward <= 0 for s in segments)
