import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlreward.errors import ConfigError
from vlreward.rewards.quantities import NumericMatch, Quantity, read_quantity, unit_registry
from vlreward.types import Rollout, Sample


def score(answer: str, wanted, **fields) -> float:
    row = Rollout(sample=Sample(id="s", prompt="p", target={"answer": wanted}), text=f"<answer>{answer}</answer>")
    output = NumericMatch(**fields).score([row])
    assert output.errors == [None], output.errors
    return output.scores.item()


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("42", 42, ""),
        ("-3.5", -3.5, ""),
        ("−3", -3, ""),
        ("1,234,567.5", 1234567.5, ""),
        ("1{,}000", 1000, ""),
        (".5", 0.5, ""),
        ("1.5e-3 m", 0.0015, "m"),
        ("1.5 x 10^3 m", 1500, "m"),
        (r"$1.5 \times 10^{-3}$", 0.0015, ""),
        ("3/4", 0.75, ""),
        (r"\boxed{\frac{3}{4}}", 0.75, ""),
        (r"50 \%", 50, "%"),
        ("**42**.", 42, ""),
        ("It is about 7 cm.", 7, "cm"),
        ("$5.20", 5.2, ""),
        (r"2\text{ km}", 2, "km"),
        ("5 m/s^2", 5, "m/s^2"),
        ("20 degrees Celsius", 20, "degC"),
    ],
)
def test_numbers_are_read_as_people_write_them(text, value, unit):
    read = read_quantity(text)
    assert read is not None
    assert read.value == pytest.approx(value)
    assert read.unit == unit


SEVERAL = ["12 or 13", "12-13", "12 (or 14)", "1,2", "12,34", "1.2.3", "2024-05-01", "12 and 12", "3 1/2", "12 km (7.5 miles)", "x2 = 12"]


@pytest.mark.parametrize("text", [*SEVERAL, "", "many", "nan", "inf", "-", "1e999", "9" * 400, "1/0", "v2", "H2O"])
def test_several_numbers_or_none_are_no_answer(text):
    assert read_quantity(text) is None
    assert score(text, 12) == 0.0


def test_the_tolerance_is_the_larger_of_both():
    assert score("105", 100) == 0.0
    assert score("105", 100, relative=0.05) == 1.0
    assert score("105.1", 100, relative=0.05) == 0.0
    assert score("105", 100, absolute=5) == 1.0
    assert score("106", 100, relative=0.05, absolute=2) == 0.0
    assert score("100.0005", 100) == 0.0
    assert score("-100", 100, relative=1) == 0.0
    assert score("0.01", 0, relative=0.05) == 0.0
    assert score("0", 0) == score("-0.0", "0") == 1.0
    assert score("1950", 2020) == 0.0


def test_units_convert_and_must_fit():
    for answer in ("2 km", "2000 m", "2,000 metres", "200000 cm", "2e3 m"):
        assert score(answer, "2 km") == 1.0
    for answer in ("2", "2 m", "2 kg", "2 dogs", "2 km/h"):
        assert score(answer, "2 km") == 0.0
    assert score("2", "2 km", bare=True) == 1.0
    assert score("2 m", "2 km", bare=True) == 0.0
    assert score("68 °F", "20 degrees Celsius", absolute=1e-3) == 1.0
    assert score("50%", "0.5 %") == score("50", "50 %") == 0.0
    assert score("0.5", "50%") == 1.0
    assert score("36 km/h", "10 m/s") == 1.0


def test_words_beside_a_number_do_not_matter_where_no_unit_is_wanted():
    assert score("12 dogs", 12) == score("There are 12.", "12") == score("€12", 12) == 1.0


def test_a_missing_answer_scores_zero_and_the_last_one_counts():
    rows = [
        Rollout(sample=Sample(id="s", prompt="p", target={"answer": 3}), text=text)
        for text in ("3", "<answer>3</answer><answer>4</answer>")
    ]
    assert NumericMatch().score(rows).scores.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("target", ["", "several", "3 or 4", True, [3], "5 dogs"])
def test_a_broken_target_costs_its_own_row(target):
    rows = [Rollout(sample=Sample(id="s", prompt="p", target={"answer": t}), text="<answer>3</answer>") for t in (target, 3)]
    output = NumericMatch().score(rows)
    assert output.broken.tolist() == [True, False]
    assert output.scores[1] == 1.0


def test_without_the_extra_the_remedy_is_named(monkeypatch):
    unit_registry.cache_clear()
    monkeypatch.setitem(sys.modules, "pint", None)
    with pytest.raises(ConfigError, match=r"pip install 'vlreward\[text\]'"):
        NumericMatch().load("cpu")


@pytest.mark.parametrize(
    "unit", ["m**4**4**4**4**4", "m**4 **4 **4 **4 **4", "m^4²²²²", "(" * 30, "m" * 500, "m " * 100, "°%·*/", "__import__('os')"]
)
def test_a_unit_made_to_hang_or_break_the_parser_is_only_wrong(unit):
    assert score(f"2 {unit}", "2 km") == 0.0


@given(st.text(alphabet="0123456789 .,-+eE/×^*{}\\%kmg°()frac²", max_size=40))
def test_any_answer_stays_in_bounds(text):
    assert score(text, "2 km", relative=0.5) in (0.0, 1.0)
    assert score(text, 7, absolute=3) in (0.0, 1.0)


@given(st.floats(-1e12, 1e12).filter(lambda v: abs(v) > 1e-9 or v == 0))
def test_a_number_reads_back_as_it_was_written(value):
    for text in (repr(value), f"{value:,}", f"{value:e}"):
        read = read_quantity(text)
        assert isinstance(read, Quantity)
        assert read.value == pytest.approx(value, rel=1e-6)
