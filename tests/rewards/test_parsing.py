import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlreward.rewards.answers import final_answer
from vlreward.rewards.parsing import read_boxes, read_labelled, read_objects, read_points, read_spans, says_none


def points(answer: str) -> list:
    return read_points([answer])[0].tolist()


def boxes(answer: str) -> list[list[float]]:
    return read_boxes([answer])[0].tolist()


@pytest.mark.parametrize(
    "answer",
    [
        "[10, 20, 30, 40]",
        "(10, 20, 30, 40)",
        "[[10,20,30,40]]",
        "(10,20),(30,40)",
        "<|object_ref_start|>a cat<|object_ref_end|><|box_start|>(10,20),(30,40)<|box_end|>",
        "<ref>a cat</ref><box>(10, 20), (30, 40)</box>",
        "a cat(10,20),(30,40)",
        '```json\n[{"bbox_2d": [10, 20, 30, 40], "label": "cat"}]\n```',
        '[{"bbox_2d": [10, 20, 30, 40], "label": "cat"}, {"bbox_2d": [50, 6',
        "[10.0, 2e1, +30, 40.]",
        "\n[ 10 ,20,\t30, 040 ]",
    ],
)
def test_every_syntax_gives_the_same_box(answer):
    assert boxes(answer) == [[10, 20, 30, 40]]


def test_signs_fractions_and_overflow_are_read_as_written():
    assert boxes("[-1, .5, 1e999, 3]") == [[-1, 0.5, float("inf"), 3]]
    assert boxes(f"[1, 2, 3, {'9' * 5000}]") == [[1, 2, 3, float("inf")]]


@pytest.mark.parametrize(
    "answer", ["", "[1, 2, 3]", "[1, 2, 3, 4, 5]", "[1, 2, 3, 4", "[1, 2, 3, 1.2.3]", "[1, 2, 3, -]", "[a, b, c, d]", "[,,,]"]
)
def test_what_is_no_box_is_not_read(answer):
    assert boxes(answer) == []


def test_many_answers_are_read_at_once_as_one_by_one(hostile):
    numbers, counts = read_boxes(hostile)
    assert counts.tolist() == [len(boxes(text)) for text in hostile]
    np.testing.assert_array_equal(numbers, np.concatenate([read_boxes([text])[0] for text in hostile]))


def test_many_labelled_answers_are_read_at_once_as_one_by_one(hostile):
    labels, numbers, counts = read_labelled(hostile)
    alone = [labelled(text) for text in hostile]
    assert counts.tolist() == list(map(len, alone))
    assert labels == [label for found in alone for label, _ in found]
    np.testing.assert_array_equal(numbers, [box for found in alone for _, box in found])


def test_a_stray_quote_does_not_swallow_the_next_object():
    assert read_objects('{"a": "x}, {y", "b": 1}, {"c": 2}') == [{}, {}, {"c": 2}]


number = st.floats(-1e6, 1e6).map(lambda v: round(v, 3))


@given(st.lists(st.lists(number, min_size=4, max_size=4), max_size=4))
def test_reading_what_was_written_gives_the_same_boxes(written):
    assert boxes(str(written)) == written


def labelled(answer: str) -> list[tuple[str, list[float]]]:
    labels, numbers, _ = read_labelled([answer])
    return list(zip(labels, numbers.tolist(), strict=True))


def test_labels_come_from_json_tokens_or_the_text_before_the_box():
    wanted = [("a cat", [1, 2, 3, 4]), ("dog", [5, 6, 7, 8])]
    for answer in (
        '[{"bbox_2d": [1, 2, 3, 4], "label": "a cat"}, {"label": "dog", "bbox_2d": [5, 6, 7, 8]}]',
        "[{'bbox_2d': [1, 2, 3, 4], 'label': 'a cat'}, {'bbox': [5, 6, 7, 8], 'label': 'dog'}]",
        '{"objects": [{"box": [1, 2, 3, 4], "label": "a cat"}, {"bbox_2d": [5, 6, 7, 8], "label": "dog"}, {"bbox_2d": [9',
        "<|object_ref_start|>a cat<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|><|object_ref_start|>dog<|object_ref_end|>"
        "<|box_start|>(5,6),(7,8)<|box_end|>",
        "a cat(1,2),(3,4)dog(5,6),(7,8)",
        "- a cat: [1, 2, 3, 4]\n- dog: [5, 6, 7, 8]",
    ):
        assert labelled(answer) == wanted, answer


def test_an_object_without_a_readable_box_still_counts():
    found = labelled('[{"label": "cat"}, {"bbox_2d": [1, 2, "3", 4]}, {"bbox_2d": [1, 2, 3], "label": 5}, {oops}]')
    assert [label for label, _ in found] == ["cat", "", "", ""]
    assert np.isnan([box for _, box in found]).all()


def test_truncated_json_keeps_every_complete_object():
    assert read_objects('[{"a": 1}, {"a": 2}, {"a": ') == [{"a": 1.0}, {"a": 2.0}]
    assert read_objects("{" * 3000 + '"a": 1' + "}" * 3000) == [{"a": 1.0}]
    assert read_objects('{"a": ' + "[" * 9000 + "]" * 9000 + "}") == [{}], "too deep for the parser"


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ('{"point_2d": [20, 30], "label": "x"}', [[20, 30]]),
        ("(20, 30) and [4, 5]", [[20, 30], [4, 5]]),
        ("click(20.5, 30)", [[20.5, 30]]),
        ("[10, 20, 30, 40]", [[20, 30]]),
        ("20, 30", []),
        ("", []),
        ("[1, 2, 3, 4] and (5, 6)", [[5, 6]]),
        ("(.5, +6), (05, 1e999)", [[0.5, 6], [5, math.inf]]),
        ("(\uff11, 2)", [[1, 2]]),
    ],
)
def test_points_and_the_centres_of_boxes(answer, wanted):
    numbers, counts = read_points([answer])
    assert numbers.tolist() == wanted
    assert counts.tolist() == [len(wanted)]


def test_the_points_of_many_answers_are_those_of_each():
    plain = ["(20, 30)", "", "[1, 2] [3, 4.5]", "none"]
    for answers in (plain, [*plain, "[10, 20, 30, 40]"], [*plain, "(.5, 6)"], ["", ""], []):
        numbers, counts = read_points(answers)
        alone = [read_points([answer])[0] for answer in answers]
        assert counts.tolist() == [len(points) for points in alone]
        np.testing.assert_array_equal(numbers, np.concatenate([np.empty((0, 2)), *alone]))


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("12.5 - 20", [(12.5, 20)]),
        ("12.5s–20s", [(12.5, 20)]),
        ("from 0:12 to 1:02.5", [(12, 62.5)]),
        ("1:00:00 to 1:00:10", [(3600, 3610)]),
        ("[12.5, 20]", [(12.5, 20)]),
        ("[[1, 2], [3, 4]]", [(1, 2), (3, 4)]),
        ('[{"start": 1, "end": 2.5}, {"start_time": 3, "end_time": 4}, {"start": 5', [(1, 2.5), (3, 4)]),
        ("it starts at 3.2 seconds until 7.", [(3.2, 7)]),
        ("20 - 10", [(20, 10)]),
        ("-3, 5", []),
        ("2 people, 3 dogs", []),
        ("5", []),
    ],
)
def test_spans_of_time(answer, wanted):
    assert read_spans(answer) == wanted


@pytest.mark.parametrize("answer", ["none", " None. ", "[]", "[ ]", "```json\n[]\n```"])
def test_saying_that_there_is_nothing(answer):
    assert says_none(answer)


@pytest.mark.parametrize("answer", ["", "there is none here, I think", "[1]", "no", "[[]]"])
def test_anything_else_does_not_say_it(answer):
    assert not says_none(answer)


@given(st.lists(st.sampled_from(["<answer>", "</answer>", "a", " b "]), max_size=8).map("".join))
def test_the_final_answer_is_the_last_complete_one(text):
    """The same as the definition: the last match of an answer that has no other inside."""
    found = list(re.finditer(r"<answer>((?:(?!<answer>).)*?)</answer>", text, re.DOTALL))
    wanted = (found[-1].group(1).strip(), found[-1].start(1), found[-1].end(1)) if found else None
    assert final_answer(text) == wanted


@pytest.mark.parametrize("piece", ["[", "(1,", "[1,2],", "{", "{'a':", "<", "1 ", "1:", "1-", " ", "e", "9", "<answer>", "[ ", '{"'])
def test_reading_a_long_text_takes_no_more_than_linear_time(piece):
    """Fails by never ending."""
    text = piece * 20_000
    for read in (boxes, points, labelled, read_objects, read_spans, says_none, final_answer):
        read(text)
