"""Rewards for what was done in rollouts of several turns."""

import math

import pytest

from vlreward.config import parse
from vlreward.errors import ConfigError
from vlreward.rewards.actions import EachAction, InView, LastTurn, Revised
from vlreward.rewards.answers import AnswerFormat, ExactMatch
from vlreward.rewards.base import Reward
from vlreward.rewards.boxes import BoxIoU
from vlreward.rewards.findings import CropIoU, PagesFound, ToolUse, ZoomIoU
from vlreward.types import Action, Rollout, Sample


def rollout(*done: tuple, **target) -> Rollout:
    """One that did this: (name, words, facts or error)."""
    text, actions = "", []
    for name, words, *more in done:
        start = len(text) + bool(text)
        text = f"{text}\n{words}" if text else words
        found = more[0] if more else {}
        facts, error = ({}, found) if isinstance(found, str) else (found, None)
        actions.append(Action(name=name, start=start, end=len(text), facts=facts, error=error))
    return Rollout(sample=Sample(id="s", prompt="p", target=target), text=text, actions=tuple(actions))


def crop(*box: float, source: int | str = 0) -> tuple:
    return "crop", "look", {"box": box, "source": source, "view": box, "size": (100, 100)}


RED, BLUE = ("answer", "<answer>red</answer>"), ("revision", "<answer>blue</answer>")
EVIDENCE = {"evidence": [[0, 0, 10, 10]], "answer": "red", "boxes": [[10, 10, 20, 20]]}
JUDGE = EachAction(of={"crop": CropIoU(), "answer": ExactMatch()})


def score(reward: Reward, *rollouts: Rollout) -> list[float]:
    output = reward.score(rollouts)
    assert output.errors == [None] * len(rollouts)
    return output.scores.tolist()


def test_each_action_has_a_reward_of_its_own_and_names_count_alike():
    made = rollout(crop(0, 0, 10, 10), crop(0, 0, 10, 5), RED, **EVIDENCE)
    output = JUDGE.score([made])
    assert output.scores.tolist() == [pytest.approx((0.75 + 1) / 2)]
    assert [part.reward for part in output.segments[0]] == [1, 0.5, 1]
    assert [(part.start, part.end) for part in output.segments[0]] == [(0, 4), (4, 9), (9, len(made.text or ""))]


def test_a_call_left_out_or_failed_counts_nothing_and_repeating_one_gains_nothing():
    good, wrong = crop(0, 0, 10, 10), ("crop", "look", "no such picture")
    assert score(JUDGE, rollout(RED, **EVIDENCE), rollout(wrong, RED, **EVIDENCE)) == [0.5, 0.5]
    assert score(JUDGE, rollout(good, RED, **EVIDENCE), rollout(good, good, good, RED, **EVIDENCE)) == [1, 1]
    assert score(JUDGE, rollout(good, good, wrong, RED, **EVIDENCE)) == [pytest.approx((2 / 3 + 1) / 2)]


def test_actions_after_the_same_calls_share_a_state():
    first, second = JUDGE.score([rollout(crop(0, 0, 9, 9), RED, **EVIDENCE), rollout(crop(0, 0, 9, 9), BLUE, RED, **EVIDENCE)]).segments
    assert [part.state for part in first] == ["", "crop{}"]
    assert first[1].state != second[1].state


def test_an_action_nobody_judges_has_no_segment_and_a_rollout_of_one_turn_no_score():
    made = rollout(("calculate", "1+1"), RED, **EVIDENCE)
    assert [part.reward for part in EachAction(of={"answer": ExactMatch()}).score([made]).segments[0]] == [1]
    [nan] = score(JUDGE, Rollout(sample=made.sample, text="<answer>red</answer>"))
    assert math.isnan(nan)


def test_rewards_that_compare_whole_rollouts_cannot_judge_actions():
    with pytest.raises(ConfigError, match=r"of\.answer: is 'rank'"):
        parse(Reward, {"kind": "each_action", "of": {"answer": {"kind": "rank", "of": "exact_match"}}})
    with pytest.raises(ConfigError, match="is empty"):
        EachAction(of={})


def test_crops_are_worth_their_overlap_with_the_evidence_on_its_own_picture():
    reward = CropIoU()
    assert score(reward, rollout(crop(0, 0, 10, 5), **EVIDENCE)) == [0.5]
    assert score(reward, rollout(crop(0, 0, 10, 10, source=1), **EVIDENCE), rollout(RED, **EVIDENCE)) == [0, 0]
    assert score(reward, rollout(crop(0, 0, 10, 10, source="page"), **EVIDENCE, evidence_of="page")) == [1]
    assert score(reward, rollout(crop(0, 0, 10, 10), ("crop", "x", "thin"), **EVIDENCE)) == [0.5]
    assert score(CropIoU(form="hit", floor=0.6), rollout(crop(0, 0, 10, 5), **EVIDENCE)) == [0]
    assert score(reward, rollout(crop(0, 0, 2, 2), evidence=[[50, 50, 60, 60], [0, 0, 2, 4]])) == [0.5]


def test_zooms_are_worth_their_overlap_in_time():
    zoom = ("zoom_clip", "look", {"span": (1.0, 3.0), "source": 0})
    assert score(ZoomIoU(), rollout(zoom, evidence_spans=[[2, 4]]), rollout(RED, evidence_spans=[[2, 4]])) == [pytest.approx(1 / 3), 0]
    output = ZoomIoU().score([rollout(zoom, evidence_spans=[[4, 2]])])
    assert "target.evidence_spans[0]" in (output.errors[0] or "")


def test_pages_count_by_rank_where_they_first_came():
    found = lambda *pages: ("retrieve", "q", {"pages": list(pages)})  # noqa: E731
    right = {"pages": ["a", "b"]}
    assert score(PagesFound(), rollout(found("a", "b"), **right), rollout(found("x"), **right)) == [1, 0]
    late = score(PagesFound(), rollout(found("x", "a", "b"), **right), rollout(found("x"), found("a", "a"), found("b"), **right))
    assert late[0] == late[1] == pytest.approx((1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3)))
    assert score(PagesFound(measure="recall"), rollout(found("x", "a"), **right)) == [0.5]
    assert score(PagesFound(), rollout(found("b"), pages={"a": 3.0, "b": 1.0})) == [pytest.approx(1 / (3 + 1 / math.log2(3)))]
    assert "target.pages" in (PagesFound().score([rollout(found("b"), pages=[])]).errors[0] or "")


def test_tool_use_is_the_share_of_calls_that_worked():
    good, bad = crop(0, 0, 1, 1), ("unreadable", "{", "not JSON")
    assert score(ToolUse(), rollout(good, bad, RED), rollout(RED), rollout(good, RED)) == [0.5, 0, 1]
    assert score(ToolUse(most=1), rollout(good, good, RED)) == [0.5]


def test_a_revision_gains_by_what_it_is_better_and_loses_by_what_it_is_worse():
    wrong = ("answer", "<answer>blue</answer>")
    right = ("revision", "<answer>red</answer>")
    reward = Revised(of=ExactMatch(), gain=0.5)
    rows = [
        rollout(wrong, right, answer="red"),
        rollout(RED, BLUE, answer="red"),
        rollout(RED, right, answer="red"),
        rollout(RED, answer="red"),
    ]
    output = reward.score(rows)
    assert output.scores.tolist() == [1.5, -0.5, 1, 1]
    assert [[part.reward for part in parts] for parts in output.segments] == [[0, 1.5], [1, -0.5], [1, 1], [1]]
    assert score(Revised(of=ExactMatch(), gain=0), *rows) == [1, 0, 1, 1]


def test_held_back_first_answers_are_not_paid_by_segment():
    """The whole pays for a first answer that is wrong on purpose; the first turn's own segment does not."""
    honest, sly = rollout(RED, ("revision", RED[1]), answer="red"), rollout(("answer", "?"), ("revision", RED[1]), answer="red")
    output = Revised(of=ExactMatch()).score([honest, sly])
    assert output.scores[1] > output.scores[0]
    assert output.segments[1][0].reward < output.segments[0][0].reward


def test_boxes_in_a_view_are_moved_to_the_picture():
    seen = ("crop", "look", {"box": (10, 10, 20, 20), "source": 0, "view": (10.0, 10.0, 30.0, 20.0), "size": (40, 40)})
    reward = InView(of=BoxIoU())
    assert score(reward, rollout(seen, ("answer", "<answer>[0, 0, 20, 40]</answer>"), **EVIDENCE)) == [1]
    assert score(reward, rollout(("answer", "<answer>[10, 10, 20, 20]</answer>"), **EVIDENCE)) == [1]
    assert score(InView(of=BoxIoU(), frame="unit"), rollout(seen, ("answer", "<answer>[0, 0, 0.5, 1]</answer>"), **EVIDENCE)) == [1]
    assert score(reward, rollout(seen, ("answer", "nothing"), **EVIDENCE), rollout(**EVIDENCE)) == [0, 0]
    first = ("crop", "<answer>[0, 0, 20, 40]</answer>", seen[2])
    assert score(reward, rollout(first, ("answer", "?"), **EVIDENCE)) == [0], "a call is no answer"


def test_an_answer_by_itself_still_has_the_views_before_it():
    seen = ("crop", "look", {"box": (10, 10, 20, 20), "source": 0, "view": (10.0, 10.0, 30.0, 20.0), "size": (40, 40)})
    made = rollout(seen, ("answer", "<answer>[0, 0, 20, 40]</answer>"), **EVIDENCE)
    reward = EachAction(of={"crop": CropIoU(key="boxes"), "answer": InView(of=BoxIoU())})
    assert [part.reward for part in reward.score([made]).segments[0]] == [1, 1]


def test_the_last_turn_is_judged_without_the_turns_before():
    made = rollout(crop(0, 0, 1, 1), RED)
    assert score(AnswerFormat(), made) != score(LastTurn(of=AnswerFormat()), made) == [1]
