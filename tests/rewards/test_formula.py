import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlreward.rewards.formula import FormulaSimilarity, formula_tokens
from vlreward.types import Rollout, Sample


def score(rollout, answer: str, *wanted: str) -> float:
    output = FormulaSimilarity().score([rollout(f"<answer>{answer}</answer>", formula=list(wanted))])
    assert output.errors == [None]
    return output.scores.item()


@pytest.mark.parametrize(
    "pair",
    [
        (r"$\dfrac{1}{2}$", r"\frac12"),
        (r"\[ x^{2} \]", "x^2"),
        (r"$$a_{i}^{2}$$", "a^2_i"),
        (r"x_{ij}^{n+1}", r"x^{n+1}_{ij}"),
        (r"\left( a \le b \right)", r"(a\leq b)"),
        (r"\begin{equation} x \label{eq:1} \end{equation}", "x"),
        (r"a\,b\quad c~d", "abcd"),
        ("x % a comment\n+ y", "x+y"),
        (r"{{{x}}}{}", "x"),
        (r"\sqrt{{a^{b}_{c}}}", r"\sqrt{a_c^b}"),
        (r"\operatorname{sin} x", r"\text{sin} x"),
        (r"\bigl( x \Bigr)", "(x)"),
    ],
)
def test_spellings_of_one_formula_are_equal(rollout, pair):
    first, second = pair
    assert formula_tokens(first) == formula_tokens(second)
    assert score(rollout, first, second) == 1.0


@pytest.mark.parametrize(("first", "second"), [("a+b", "b+a"), ("x^{12}", "x^12"), (r"\alpha", "a"), ("x_1", "x^1"), (r"50\%", "50")])
def test_what_reads_otherwise_is_not_equal(rollout, first, second):
    assert score(rollout, first, second) < 1.0


def test_worked_values(rollout):
    assert score(rollout, "a+b", "a-b") == pytest.approx(2 / 3)
    assert score(rollout, r"\frac{a}{b}", r"\frac{a}{b+c}") == pytest.approx(1 - 4 / 7)
    assert score(rollout, "a+b", "c", "a+b=c") == pytest.approx(3 / 5)


def test_empty_and_surplus_answers_do_not_pay(rollout):
    assert score(rollout, "", "x+y") == 0.0
    assert score(rollout, r"{{}}\,\quad", "x+y") == 0.0
    assert score(rollout, r"x+y \quad x+y", "x+y") == 0.5
    assert score(rollout, r"x+y \phantom{z}", "x+y") == pytest.approx(3 / 5)
    assert score(rollout, "x" * 30_000, "x") == 0.0
    assert FormulaSimilarity().score([rollout("x+y", formula="x+y")]).scores.item() == 0.0


def test_a_broken_target_costs_its_own_row(rollout):
    output = FormulaSimilarity().score([rollout("<answer>x</answer>", formula=target) for target in ("", "x", None)])
    assert output.broken.tolist() == [True, False, False]
    assert output.scores[2].isnan()


def test_deep_braces_neither_break_nor_take_long(rollout):
    assert 0 <= score(rollout, "{" * 9_000 + "x" + "}" * 9_000, "x") <= 1
    assert 0 <= score(rollout, "{x" * 6_000, "x") <= 1


@given(st.text(alphabet=r"\{}^_$ab12 %~[]()&", max_size=60))
def test_any_answer_stays_in_bounds(text):
    row = Rollout(sample=Sample(id="s", prompt="p", target={"formula": r"\frac{a}{b}"}), text=f"<answer>{text}</answer>")
    output = FormulaSimilarity().score([row])
    assert output.errors == [None]
    assert 0 <= output.scores.item() <= 1
