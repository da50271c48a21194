import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlreward.rewards.counting import CountMatch, count_score, read_count
from vlreward.tiny.tasks import make
from vlreward.types import Rollout


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("3", 3),
        ("There are 12 dogs.", 12),
        ("1,200", 1200),
        ("3.0", 3),
        ("three", 3),
        ("Three (3)", 3),
        ("twenty-one", 21),
        ("two hundred and five", 205),
        ("two thousand three hundred forty one", 2341),
        ("a dozen", 12),
        ("2 dozen", 24),
        ("none", 0),
        ("There are no dogs", 0),
        ("No, there are 3", 3),
        ("zero", 0),
        ("\uff12", 2),
        ("3-5", None),
        ("3\u20135", None),
        ("3 or 4", None),
        ("between three and four", None),
        ("1, 2, 3", None),
        ("1,2000", None),
        ("3.5", None),
        ("-3", None),
        ("3rd", None),
        ("1e3", None),
        ("x3", None),
        ("9" * 5000, None),
        ("a few", None),
        ("", None),
    ],
)
def test_a_text_names_one_number_or_none(text, wanted):
    assert read_count(text) == wanted


@given(st.integers(0, 999_999))
def test_a_number_is_read_in_digits_and_in_words(number):
    ones = (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
    )
    tens = "zero ten twenty thirty forty fifty sixty seventy eighty ninety"

    def below_hundred(n: int) -> str:
        return ones.split()[n] if n < 20 else tens.split()[n // 10] + (f"-{ones.split()[n % 10]}" if n % 10 else "")

    def below_thousand(n: int) -> str:
        head = f"{ones.split()[n // 100]} hundred" if n >= 100 else ""
        return " and ".join(filter(None, (head, below_hundred(n % 100) if n % 100 or not head else "")))

    words = below_thousand(number % 1000) if number % 1000 or not number else ""
    words = " ".join(filter(None, (f"{below_thousand(number // 1000)} thousand" if number >= 1000 else "", words)))
    assert read_count(words) == number, words
    assert read_count(f"{number:,} of them") == number


@pytest.mark.parametrize(
    ("mode", "found", "wanted", "score"),
    [
        ("exact", 3, 3, 1),
        ("exact", 3, 4, 0),
        ("relative", 5, 4, 0.75),
        ("relative", 3, 4, 0.75),
        ("relative", 9, 4, 0),
        ("relative", 0, 0, 1),
        ("relative", 1, 0, 0),
        ("log_ratio", 3, 1, 0.5),
        ("log_ratio", 1, 3, 0.5),
        ("log_ratio", 0, 0, 1),
    ],
)
def test_how_near_a_count_is(rollout, mode, found, wanted, score):
    output = CountMatch(mode=mode).score([rollout(f"<answer>{found}</answer>", answer=wanted)])
    assert output.scores.item() == pytest.approx(score)


def test_the_log_ratio_is_the_exponential_of_the_logarithms_difference():
    for found in range(12):
        for wanted in range(12):
            assert count_score(found, wanted, "log_ratio") == pytest.approx(math.exp(-abs(math.log((found + 1) / (wanted + 1)))), abs=1e-12)


def test_seven_found_for_three_are_not_below_zero():
    """The public graded GenEval reward gives -1/3 here."""
    assert count_score(7, 3, "relative") == 0.0


def test_enumerating_ranges_and_silence_score_zero(rollout):
    for text in (
        "<answer>1 2 3 4 5</answer>",
        "<answer>3 to 4</answer>",
        "<answer></answer>",
        "",
        "4",
        "<answer>four dogs, 4 cats, 5 birds</answer>",
    ):
        assert CountMatch().score([rollout(text, answer=4)]).scores.item() == 0.0, text
    assert CountMatch(tags=False).score([rollout("4", answer=4)]).scores.item() == 1.0


def test_the_tiny_worlds_counting_task_can_be_scored():
    sample = make("counting", 1)
    right = Rollout(sample=sample, text=f"<answer>{sample.target['answer']}</answer>")
    assert CountMatch().score([right]).scores.item() == 1.0


@pytest.mark.parametrize("answer", ["many", "3 or 4", 2.5, ""])
def test_a_target_that_is_no_count_breaks_its_row_only(rollout, answer):
    output = CountMatch().score([rollout("<answer>3</answer>", answer=answer), rollout("<answer>3</answer>", answer="three")])
    assert "expected one whole number" in output.errors[0]
    assert output.scores[1] == 1.0


@pytest.mark.parametrize("mode", ["exact", "relative", "log_ratio"])
def test_no_answer_leaves_the_bounds_or_breaks(rollout, hostile, mode):
    output = CountMatch(mode=mode, tags=False).score([rollout(text, answer=3) for text in hostile])
    assert not any(output.errors)
    assert ((output.scores >= 0) & (output.scores <= 1)).all()
