import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlreward.rewards.choices import MultipleChoice, read_choice

PETS = ["a cat", "a dog", "A", "none of them"]


def score(rollout, answer: str, wanted: str = "B", **target) -> float:
    output = MultipleChoice().score([rollout(f"<answer>{answer}</answer>", answer=wanted, **target)])
    assert output.errors == [None], output.errors
    return output.scores.item()


FORMS = [
    "B",
    "b",
    " B ",
    "B.",
    "B)",
    "(B)",
    "(b)",
    "[B]",
    "{B}",
    "B:",
    "**B**",
    "Option B",
    "The answer is B",
    "the correct answer is: (B).",
]
FORMS += [
    "Answer: B",
    r"\boxed{B}",
    r"$\boxed{\text{B}}$",
    "(B) a dog",
    "B. a dog",
    "B: a dog.",
    "B - a dog",
    "The best option is B) a dog",
]


@pytest.mark.parametrize("answer", FORMS)
def test_the_usual_forms_of_one_letter_are_read(rollout, answer):
    assert score(rollout, answer) == 1.0
    assert score(rollout, answer, choices=PETS) == 1.0
    assert score(rollout, answer, wanted="C") == 0.0


SPAM = [
    "A B C D",
    "A, B, C, D",
    "A or B",
    "B or C",
    "(A)(B)(C)(D)",
    "B. or C.",
    "B) C)",
    "A. a cat B. a dog",
    "B (or C)",
    "ABCD",
    "B/C",
    "B and C",
]


@pytest.mark.parametrize("answer", [*SPAM, "", "?", "dog", "Because", "bee", "I think so", r"\boxed{A} \boxed{B, C}", "(B", "not B"])
def test_naming_several_options_or_none_pays_for_no_option(rollout, answer):
    assert [score(rollout, answer, wanted=letter) for letter in "ABCD"] == [0.0] * 4
    assert [score(rollout, answer, wanted=letter, choices=["x", "y", "z", "w"]) for letter in "ABCD"] == [0.0] * 4


def test_an_options_own_text_is_an_answer_where_the_options_are_known(rollout):
    assert score(rollout, "A dog.", choices=PETS) == 1.0
    assert score(rollout, "The answer is a dog", choices=PETS) == 1.0
    assert score(rollout, "a dog") == 0.0
    assert score(rollout, "a cat or a dog", choices=PETS) == 0.0
    assert score(rollout, "same", choices=["same", "same"], wanted="A") == 0.0


def test_a_letter_with_another_options_text_is_wrong(rollout):
    assert score(rollout, "B. a cat", choices=PETS) == 0.0
    assert score(rollout, "B. anything") == 1.0
    assert score(rollout, "E", choices=PETS) == 0.0


def test_an_article_is_no_option(rollout):
    assert read_choice("A dog is there") is None
    assert read_choice("B. A dog. I am sure") == "B"


def test_the_last_answer_counts_and_tags_can_be_optional(rollout):
    rows = [rollout("<answer>B</answer><answer>C</answer>", answer="B"), rollout("B", answer="B")]
    assert MultipleChoice().score(rows).scores.tolist() == [0.0, 0.0]
    assert MultipleChoice(tags=False).score(rows).scores.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    "target", [{"answer": ""}, {"answer": "AB"}, {"answer": 2}, {"answer": "C", "choices": ["x", "y"]}, {"answer": "A", "choices": "xy"}]
)
def test_a_broken_target_costs_its_own_row(rollout, target):
    output = MultipleChoice().score([rollout("<answer>A</answer>", **target), rollout("<answer>A</answer>", answer="(a)")])
    assert output.broken.tolist() == [True, False]
    assert output.scores[1] == 1.0


@given(st.text(alphabet="ABCDabcd()[]{}.:-\\boxed answer is", max_size=60))
def test_an_answer_pays_for_at_most_one_option(text):
    from vlreward.types import Rollout, Sample

    for choices in (None, ["x", "b", "a d", "c"]):
        rows = [Rollout(sample=Sample(id="s", prompt="p", target={"answer": letter, "choices": choices}), text=text) for letter in "ABCD"]
        output = MultipleChoice(tags=False).score(rows)
        assert output.errors == [None] * 4
        assert output.scores.sum() <= 1
