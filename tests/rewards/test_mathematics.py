import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlreward.errors import ConfigError, RewardError
from vlreward.rewards import mathematics
from vlreward.rewards.mathematics import Judge, MathEqual, expression, judge
from vlreward.types import Rollout, Sample

pytest.importorskip("math_verify")


def row(answer: str, wanted) -> Rollout:
    return Rollout(sample=Sample(id="s", prompt="p", target={"answer": wanted}), text=f"<answer>{answer}</answer>")


EQUAL = [
    ("5", "5"),
    ("0.5", r"\frac{1}{2}"),
    (r"$\frac12$", "0.5"),
    (r"\boxed{\frac{1}{2}}", "1/2"),
    ("The answer is $5$.", "5"),
    (r"\(x = 5\)", "5"),
    ("1,000", "1000"),
    (r"\{2, 1\}", r"\{1, 2\}"),
    ("(x-1)(x+1)", "x^2-1"),
    (r"2^{1/2}", r"\sqrt{2}"),
    ("2 < x", "x > 2"),
    ("x = 5", "x = 5"),
]
DIFFERENT = [
    ("5", "6"),
    ("(2, 1)", "(1, 2)"),
    ("[0, 1]", "[0, 1)"),
    ("0.33", r"\frac13"),
    ("2 or 3", "2"),
    ("3, 2", "2"),
    ("3 = 2", "2"),
    ("1 = 3 = 2", "2"),
    ("$2$ or $3$", "3"),
    (r"\boxed{2} \boxed{3}", "3"),
    (r"\boxed{2", "2"),
    ("", "2"),
    ("two words", "2"),
    ("2" * 2000, "2"),
    (r"\frac{", "2"),
    ("1/0", "0"),
    ("__import__('os').getcwd()", "2"),
]


def test_equal_expressions_score_one_and_others_zero():
    output = MathEqual().score([row(*pair) for pair in EQUAL + DIFFERENT])
    assert not any(output.errors)
    assert output.scores.tolist() == [1.0] * len(EQUAL) + [0.0] * len(DIFFERENT), [
        (pair, note) for pair, note in zip(EQUAL + DIFFERENT, output.notes)
    ]


def test_one_of_several_references_is_enough_and_tags_matter():
    rows = [row("2", ["3", r"\frac{4}{2}"]), Rollout(sample=Sample(id="s", prompt="p", target={"answer": "2"}), text="2")]
    assert MathEqual().score(rows).scores.tolist() == [1.0, 0.0]
    assert MathEqual(tags=False).score(rows).scores.tolist() == [1.0, 1.0]


def test_a_reference_that_is_no_mathematics_costs_its_own_row():
    output = MathEqual().score([row("2", ""), row("2", r"\frac{"), row("2", "2")])
    assert output.broken.tolist() == [True, True, False]
    assert "no readable expression" in (output.errors[1] or "")


def test_an_expression_without_end_is_worth_nothing_and_the_batch_goes_on():
    output = MathEqual(seconds=1).score([row("9^{9^{9^{9}}}", "2"), row(r"\sum_{n=1}^{9^{9^9}} \sin(n!)", "2"), row("1+1", "2")])
    assert output.scores.tolist() == [0.0, 0.0, 1.0]
    assert not any(output.errors)


def test_a_process_that_hangs_or_dies_is_replaced(monkeypatch, tmp_path):
    worker = tmp_path / "math_worker.py"
    worker.write_text(
        "import sys, time\nprint('\"ready\"', flush=True)\nfor line in sys.stdin:\n"
        "    if 'hang' in line: time.sleep(60)\n    if 'die' in line: sys.exit(1)\n    print('\"equal\"', flush=True)\n"
    )
    monkeypatch.setattr(mathematics, "__file__", str(tmp_path / "mathematics.py"))
    monkeypatch.setattr(mathematics, "READY_SECONDS", 60)
    process = Judge()
    verdicts = [process.compare(text, ["x"], 1) for text in ("a", "die", "b", "hang", "c")]
    assert verdicts == ["equal", "late", "equal", "late", "equal"]
    process.stop()
    worker.write_text("raise SystemExit(1)")
    with pytest.raises(RewardError, match="did not start"):
        process.compare("a", ["x"], 1)


def test_the_worker_answers_line_by_line():
    assert judge().compare("1+1", ["2"], 5) == "equal"
    assert judge().compare("1+1", ["3"], 5) == "different"
    assert judge().compare("1+1", [r"\frac{"], 5) == "reference"


def test_the_formula_of_a_text_is_found():
    assert expression("so $x^2$.") == "x^2"
    assert expression(r"\[ x \]") == "x"
    assert expression(r"hence \boxed{\{1, \frac{1}{2}\}} .") == r"\{1, \frac{1}{2}\}"
    assert expression("$1$ and $2$") == ""
    assert expression("7.") == "7"


def test_without_the_extra_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'vlreward\[text\]'"):
        MathEqual().load("cpu")


@settings(max_examples=25)
@given(st.text(alphabet="0123456789+-*/^(){}\\$=<>, xfracsqrt", max_size=25))
def test_any_answer_stays_in_bounds(text):
    output = MathEqual(seconds=1).score([row(text, "2")])
    assert output.errors == [None]
    assert output.scores.item() in (0.0, 1.0)
