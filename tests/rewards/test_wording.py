import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlreward.errors import ConfigError
from vlreward.rewards import wording
from vlreward.rewards.wording import Language, Repetition, sentences

ENGLISH = "The red circle is to the left of the blue square."
GERMAN = "Der rote Kreis liegt links neben dem blauen Quadrat, und das ist alles."
CHINESE = "红色的圆在蓝色正方形的左边，绿色的三角形在上面。"


@pytest.mark.parametrize(
    ("text", "fields", "wanted"),
    [
        ("a red box a red box", {"n": 2}, -2 / 5),
        ("a red box A Red Box", {"n": 2}, -2 / 5),
        ("one two three four", {}, 0.0),
        ("go go go go go", {}, -2 / 3),
        ("go", {}, 0.0),
        ("", {}, 0.0),
        ("gogogogo", {}, 0.0),
        ("gogogogo", {"unit": "characters", "n": 2}, -5 / 7),
        ("红的红的", {"n": 2}, -1 / 3),
    ],
)
def test_repetition_is_the_share_of_n_grams_seen_before(rollout, text, fields, wanted):
    assert Repetition(**fields).score([rollout(text)]).scores.item() == pytest.approx(wanted)


def test_endless_repetition_comes_close_to_the_bottom(rollout):
    assert Repetition().score([rollout("the same thing " * 1000)]).scores.item() < -0.99
    assert Repetition(unit="characters").score([rollout("a" * 5000)]).scores.item() < -0.99


def test_repetition_agrees_with_its_definition_in_the_long_form(rollout):
    text = "a b c a b c a b d".split()
    grams = list(zip(text, text[1:], text[2:]))
    repeated = sum(gram in grams[:i] for i, gram in enumerate(grams))
    assert Repetition().score([rollout(" ".join(text))]).scores.item() == pytest.approx(-repeated / len(grams))


def language(rollout, text, **fields) -> float:
    output = Language(**({"language": "en", "among": ("en", "de", "zh", "ja")} | fields)).score([rollout(text)])
    assert output.errors == [None]
    return output.scores.item()


def test_a_text_in_the_wanted_language_scores_one(rollout):
    assert language(rollout, ENGLISH) == 1.0
    assert language(rollout, f"<think>{ENGLISH}</think><answer>{ENGLISH}</answer>") == 1.0
    assert language(rollout, GERMAN) == 0.0
    assert language(rollout, CHINESE, language="zh") == 1.0
    assert language(rollout, ENGLISH, among=()) == 1.0


def test_a_mixed_text_scores_its_share_in_letters(rollout):
    letters = [sum(c.isalpha() for c in text) for text in (ENGLISH, GERMAN)]
    assert language(rollout, f"{ENGLISH} {GERMAN}") == pytest.approx(letters[0] / sum(letters))
    assert language(rollout, f"{GERMAN}\n{ENGLISH}") == pytest.approx(letters[0] / sum(letters))


@pytest.mark.parametrize("text", ["", "12 + 3 = 15", "<answer></answer>", "```python\nprint('hello world, how are you')\n```", "$x + y$"])
def test_what_is_no_prose_is_worth_nothing(rollout, text):
    assert language(rollout, text) == 0.0


def test_code_and_formulas_are_left_out(rollout):
    assert language(rollout, f"{ENGLISH} ```\n{GERMAN}\n``` $Dreieck = Kreis$ https://beispiel.de/der-rote-kreis") == 1.0


def test_short_sentences_are_joined():
    assert sentences("Yes. No. The red circle is on the left side. Ok.") == ["Yes. No. The red circle is on the left side. Ok."]
    assert len(sentences(f"{ENGLISH} {GERMAN}")) == 2
    assert sentences("42.") == []


def test_a_sample_may_name_its_language_and_a_wrong_one_costs_its_row(rollout):
    rows = [rollout(GERMAN, language=name) for name in ("de", "en", "german", ["de"])] + [rollout(GERMAN)]
    output = Language(among=("en", "de")).score(rows)
    assert output.scores[:2].tolist() == [1.0, 0.0]
    assert output.broken.tolist() == [False, False, True, True, True]


def test_unknown_languages_and_a_missing_extra_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="language: is 'english', expected one of ace, af, am"):
        Language(language="english").load("cpu")
    with pytest.raises(ConfigError, match=r"among: .*xx"):
        Language(among=("en", "xx")).load("cpu")
    wording._identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(ConfigError, match=r"pip install 'vlreward\[text\]'"):
        Language().load("cpu")


REWARDS = (Repetition(), Repetition(unit="characters"), Language(language="en", among=("en", "de")))


@given(st.text(max_size=80))
def test_any_text_stays_in_bounds(text):
    from vlreward.types import Rollout, Sample

    for reward in REWARDS:
        output = reward.score([Rollout(sample=Sample(id="s", prompt="p"), text=text)])
        assert output.errors == [None]
        assert reward.bounds[0] <= output.scores.item() <= reward.bounds[1]
