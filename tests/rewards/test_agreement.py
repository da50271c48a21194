"""Rewards that go by what the other answers say."""

from __future__ import annotations

import math

import pytest
from cases import Reports
from encoders import save_encoder

from vlreward.errors import DataError
from vlreward.rewards.agreement import Agreement, SentenceAgreement
from vlreward.types import Rollout, Sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(save_encoder(tmp_path_factory.mktemp("encoder")))


def scores(reward, texts: list[str], groups: list[int] | None = None) -> list[float]:
    places = groups or [0] * len(texts)
    rows = [Rollout(sample=Sample(id=str(g), prompt="p"), text=text, group=g) for g, text in zip(places, texts, strict=True)]
    output = reward.score(rows)
    assert not any(output.errors), output.errors
    return output.scores.tolist()


def tagged(*answers: str) -> list[str]:
    return [f"<answer>{answer}</answer>" for answer in answers]


def test_the_majority_scores_highest_whatever_its_case_and_spaces():
    assert scores(Agreement(), tagged("Red", " red ", "blue", "RED")) == pytest.approx([2 / 3, 2 / 3, 0, 2 / 3])


def test_no_answer_is_worth_nothing_even_if_all_agree_on_it():
    assert scores(Agreement(), ["red", "red", *tagged("", "blue")]) == [0, 0, 0, 0]


def test_groups_are_judged_apart_and_who_is_alone_gets_nan():
    found = scores(Agreement(), tagged("red", "red", "red", "blue"), [0, 0, 1, 2])
    assert found[:2] == [1, 1]
    assert all(map(math.isnan, found[2:]))


def test_of_boxes_the_medoid_scores_highest():
    """By hand: the boxes overlap by 1/2 and 1/3 with the middle one and not at all with each other."""
    boxes = tagged("[0, 0, 10, 10]", "[0, 0, 20, 10]", "[10, 0, 50, 10]", "no box")
    found = scores(Agreement(of="boxes"), boxes)
    assert found == pytest.approx([1 / 6, (1 / 2 + 1 / 5) / 3, 1 / 15, 0])


def test_surplus_boxes_cost_and_invalid_ones_do_not_count():
    one, two, wrong = "[0, 0, 10, 10]", "[0, 0, 10, 10], [30, 30, 40, 40]", "[10, 10, 0, 0]"
    assert scores(Agreement(of="boxes"), tagged(one, two)) == [0.5, 0.5]
    assert scores(Agreement(of="boxes"), tagged(one, wrong)) == [0, 0]


def test_spans_agree_by_their_time_in_common():
    assert scores(Agreement(of="spans"), tagged("0 - 10", "5 - 10", "20 - 30")) == pytest.approx([0.25, 0.25, 0])


def test_order_of_the_group_changes_nothing():
    answers = tagged("[0, 0, 10, 10]", "[0, 0, 20, 10]", "[1, 1, 9, 12]")
    assert scores(Agreement(of="boxes"), answers) == pytest.approx(scores(Agreement(of="boxes"), answers[::-1])[::-1])


SIBLINGS = [
    "The red circle is on the left. It is small.",
    "It is small. The red circle is on the left.",
    "Three green triangles. Right and above.",
]


def test_texts_that_say_the_same_in_any_order_agree_and_the_odd_one_out_scores_lowest(folder):
    found = scores(SentenceAgreement(model=folder), SIBLINGS)
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert found[2] < found[0] - 0.01
    assert scores(SentenceAgreement(model=folder), SIBLINGS[:2]) == pytest.approx([1, 1], abs=1e-4)


def test_a_text_without_a_sentence_is_worth_nothing(folder):
    assert scores(SentenceAgreement(model=folder), [SIBLINGS[0], "..."]) == [0, 0]


def test_with_a_bank_only_known_texts_count_and_the_nearest_of_them(folder):
    reward = SentenceAgreement(model=folder, bank=Reports(count=1), distance="assignment")
    found = scores(reward, SIBLINGS)
    assert found[:2] == pytest.approx([1, 1], abs=1e-4)
    assert found[2] < 0.99
    assert scores(reward, SIBLINGS[:1]) == pytest.approx([1], abs=1e-4)
    two = SentenceAgreement(model=folder, bank=Reports(count=2), distance="assignment", nearest=2)
    assert scores(two, SIBLINGS[:1])[0] < 0.99


def test_a_bank_without_texts_is_the_users_fault(folder):
    class Empty(Reports):
        def __iter__(self):
            yield Sample(id="x", prompt="p")

    with pytest.raises(DataError, match=r"bank: x: target\.answer is None"):
        SentenceAgreement(model=folder, bank=Empty(count=1)).prepare()
