import pytest

from vlreward.rewards.answers import AnswerFormat, ExactMatch, final_answer


@pytest.mark.parametrize(
    ("style", "text", "wanted"),
    [
        ("answer", "<answer>red</answer>", 1),
        ("answer", "  <answer>red</answer>\n", 1),
        ("answer", "<think>so</think><answer>red</answer>", 0),
        ("think", "<think>so</think>\n<answer>red</answer>", 1),
        ("think", "<answer>red</answer>", 0),
        ("any", "<answer>red</answer>", 1),
        ("any", "<think>so</think><answer>red</answer>", 1),
        ("any", "<think></think><answer>red</answer>", 0),
        ("any", "<answer> </answer>", 0),
        ("any", "", 0),
        ("any", "red", 0),
        ("any", "<answer>red", 0),
        ("any", "<answer>red</answer><answer>blue</answer>", 0),
        ("any", "<answer><answer>red</answer></answer>", 0),
        ("any", "<think><answer>a</answer></think><answer>red</answer>", 0),
        ("any", "<answer>red</answer> indeed", 0),
        ("any", "<think>a</think><think>b</think><answer>red</answer>", 0),
    ],
)
def test_the_format_is_exactly_one_answer(rollout, style, text, wanted):
    assert AnswerFormat(style=style).score([rollout(text)]).scores.item() == wanted


@pytest.mark.parametrize(
    ("text", "answer", "wanted"),
    [
        ("<answer>Red</answer>", "red", 1),
        ("<answer> two  words </answer>", "two words", 1),
        ("<answer>ﬁne</answer>", "fine", 1),
        ("<answer>red, green, blue</answer>", "red", 0),
        ("<answer>red</answer><answer>blue</answer>", "red", 0),
        ("<answer></answer>", "red", 0),
        ("red", "red", 0),
        ("<answer>3</answer>", 3, 1),
        ("<answer>tv</answer>", ["television", "TV"], 1),
    ],
)
def test_the_answer_must_be_equal_after_normalisation(rollout, text, answer, wanted):
    assert ExactMatch().score([rollout(text, answer=answer)]).scores.item() == wanted


def test_without_tags_the_whole_text_is_the_answer(rollout):
    assert ExactMatch(tags=False).score([rollout("Red ", answer="red")]).scores.item() == 1


def test_an_empty_target_is_broken_data_not_a_free_point(rollout):
    output = ExactMatch().score([rollout("<answer> </answer>", answer=""), rollout("<answer>a</answer>", answer=[])])
    assert output.broken.all()


def test_the_final_answer_has_its_span():
    text = "<answer>a</answer> then <answer> b </answer>"
    found = final_answer(text)
    assert found is not None
    assert found[0] == "b"
    assert text[found[1] : found[2]] == " b "
