import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlreward.rewards.charts import RelaxedAccuracy, read_amount
from vlreward.types import Rollout, Sample


def score(answer: str, wanted, **keys) -> float:
    rollout = Rollout(sample=Sample(id="s", prompt="", target={"answer": wanted}), text=f"<answer>{answer}</answer>")
    output = RelaxedAccuracy(**keys).score([rollout])
    assert output.errors == [None], output.errors
    return output.scores.item()


@pytest.mark.parametrize(
    ("wanted", "answer", "right"),
    [
        ("100", "105", 1), ("100", "105.01", 0), ("100", "95", 1), ("100", "94.9", 0), ("-10", "-10.4", 1), ("-10", "10", 0),
        ("0", "0", 1), ("0", "0.0", 0), ("0", "0.001", 0), ("50%", "0.5", 1), ("50%", "50", 0), ("1,000", "1000", 0), ("5", "$5", 0),
        ("Yes", "yes", 1), ("yes", "yes.", 0), ("2020", "1950", 1), ("5", "nan", 0), ("5", "inf", 0), ("abc", "5", 0),
    ],
)  # fmt: skip
def test_the_strict_rule_is_chartqas_code(wanted, answer, right):
    assert score(answer, wanted, rule="strict") == right


@pytest.mark.parametrize(
    ("wanted", "answer", "right"),
    [
        ("1,000", "1000", 1), ("1000", "1,040", 1), ("1000", "1,00", 0), ("5", "$5", 1), ("$5", "€5", 0), ("5 kg", "5 kg", 1),
        ("5", "5 kg", 1), ("5 kg", "5 km", 0), ("3 years", "3 year", 1), ("12 million", "12000000", 1), ("12.3M", "12.4 million", 1),
        ("3e4", "30000", 1), ("(7)", "-7", 1), ("-7", "\u22127", 1), ("50%", "50", 1), ("50%", "0.5", 1), ("50", "50%", 1),
        ("0.5", "50 percent", 1), ("50%", "5", 0), ("0", "0.0", 1), ("0", "0.001", 0), ("yes", "Yes.", 1), ("yes", "no", 0),
        ("2020", "2020", 1), ("2020", "2021", 0), ("2020", "1950", 0), ("2020", "2020.0", 1), ("2020 kg", "2000 kg", 1), ("2,020", "2,000", 1),  # noqa: E501
        ("[3, 4]", "4 and 3", 1), ("red, blue", "blue, red", 1), ("red, blue", "red, red", 0), ("red, blue", "red", 0),
        ("red", "red, blue", 0), ("4", "4 or 5", 0), ("4", "3-5", 0), ("4", "nan", 0), ("4", "1e999", 0), ("1,234,567", "1234567", 1),
        ("2019, 2020", "2020, 2019", 1), ("2019, 2020", "2018, 2019", 0),
    ],
)  # fmt: skip
def test_the_robust_rule_reads_numbers_as_people_write_them(wanted, answer, right):
    assert score(answer, wanted) == right


def test_five_percent_is_the_edge():
    assert score("104.9999", "100") == 1
    assert score("105.0001", "100") == 0
    assert score("107", "100", tolerance=0.1) == 1
    assert score("100.5", "100", tolerance=0.0) == 0


def test_any_of_several_references_will_do():
    assert score("b", ["a", "B"]) == 1
    assert score("c", ["a", "B"]) == 0


def test_only_the_last_tagged_answer_counts(rollout):
    rows = [rollout(text, answer="7") for text in ("<answer>7</answer><answer>8</answer>", "7", "", "<answer></answer>")]
    assert RelaxedAccuracy().score(rows).scores.tolist() == [0, 0, 0, 0]
    assert RelaxedAccuracy(tags=False).score(rows).scores.tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("broken", ["", " ", [], ["7", ""]])
def test_an_empty_reference_is_an_error_of_its_row(rollout, broken):
    rows = [rollout("<answer>7</answer>", answer=broken), rollout("<answer>7</answer>", answer="7"), rollout("<answer>7</answer>")]
    output = RelaxedAccuracy().score(rows)
    assert [error is None for error in output.errors] == [False, True, True]
    assert output.scores[1] == 1
    assert output.scores[2].isnan()


def test_every_number_is_read_back_however_it_is_written():
    rng = random.Random(0)
    for _ in range(500):
        value = rng.choice([rng.randint(-99999999, 99999999), round(rng.uniform(-1e4, 1e4), 2)])
        for text in (f"{value}", f"{value:,}", f"${value:,}".replace("$-", "-$"), f"{value} km", f"{value:,} %"):
            amount = read_amount(text.lower())
            assert amount is not None, text
            assert amount.value == value, text


def test_hostile_answers_get_zero_or_one(rollout, hostile):
    for reward in (RelaxedAccuracy(), RelaxedAccuracy(rule="strict"), RelaxedAccuracy(tags=False)):
        output = reward.score([rollout(text, answer="1,200") for text in hostile])
        assert output.errors == [None] * len(hostile)
        assert set(output.scores.tolist()) <= {0.0, 1.0}


@given(
    st.text(alphabet="0123456789.,%$-()kmb and[]e ", max_size=70),
    st.text(max_size=30),
    st.sampled_from(["0", "12%", "1999", "a, b", "$3k"]),
)
def test_any_answer_gets_zero_or_one(first, second, wanted):
    for answer in (first, second):
        assert score(answer, wanted) in (0.0, 1.0)
        assert score(answer, wanted, rule="strict") in (0.0, 1.0)
