"""Pairs that the data holds."""

from __future__ import annotations

from typing import Any

import pytest

from vlreward.errors import DataError
from vlreward.types import Sample, Segment
from vlreward.vlm.preferences.pairs import Pair
from vlreward.vlm.preferences.sources import Given

UNUSED: Any = None


def given(**target: Any) -> Pair:
    [pair] = Given().pairs([Sample(id="row", prompt="p", target=target)], UNUSED, UNUSED, None, lambda count: None)
    return pair


def test_a_row_holds_both_answers_and_their_segments():
    pair = given(chosen="a cat sits", rejected="a dog", chosen_segments=[[0, 5, 1]], rejected_segments=[[2, 5, 0]])
    assert (pair.chosen.text, pair.rejected.text) == ("a cat sits", "a dog")
    assert pair.chosen.segments == (Segment(start=0, end=5, reward=1.0),)
    assert pair.rejected.segments == (Segment(start=2, end=5, reward=0.0),)


def test_one_labelled_answer_stands_on_both_sides_with_its_segments_once():
    pair = given(chosen="a cat sits", chosen_segments=[[0, 5, 1], [6, 10, 0]])
    assert pair.rejected.text == pair.chosen.text
    assert len(pair.chosen.segments) == 2
    assert pair.rejected.segments == ()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"rejected": "b"}, "row: chosen is None"),
        ({"chosen": "a"}, "row: rejected is None"),
        ({"chosen": "a", "rejected": ""}, "row: rejected is ''"),
        ({"chosen": "a", "rejected": "b", "chosen_segments": [[0, 2, 1]]}, "within 1 characters"),
        ({"chosen": "a", "rejected": "b", "chosen_segments": [[0, 1]]}, "expected .start, end, reward."),
    ],
)
def test_a_row_that_is_no_pair_is_refused_with_its_name(target, said):
    with pytest.raises(DataError, match=said):
        given(**target)
