import random

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from torchmetrics.functional.text import char_error_rate, word_error_rate

from vlreward.rewards.transcripts import (
    Anls,
    CharacterAccuracy,
    TranscriptMatch,
    WordAccuracy,
    WordF1,
    edit_similarity,
    error_rate,
    word_f1,
    words,
)
from vlreward.types import Rollout, Sample

TEXT = "The  river opens\nat 9"
ALL = (CharacterAccuracy(), WordAccuracy(), WordF1(), WordF1(order="free"), TranscriptMatch())


def written(text, wanted) -> Rollout:
    return Rollout(sample=Sample(id="s", prompt="p", target={"text": wanted, "answer": wanted}), text=text)


def score(reward, text, wanted) -> float:
    output = reward.score([written(text, wanted)])
    assert output.errors == [None], output.errors
    return output.scores.item()


@pytest.mark.parametrize("reward", ALL, ids=lambda reward: reward.kind)
def test_the_exact_transcription_scores_the_top_and_others_do_not(reward):
    assert score(reward, f"<answer>{TEXT}</answer>", TEXT) == 1.0
    assert score(reward, "<answer>The river opens at 9</answer>", TEXT) == 1.0
    for text in ("", "The river opens at 9", "<answer></answer>", "<answer>The river", "<answer>zzz</answer>"):
        assert score(reward, text, TEXT) < 0.2
    assert score(reward, f"<answer>{TEXT}</answer><answer>zzz</answer>", TEXT) < 0.2


@pytest.mark.parametrize("reward", ALL, ids=lambda reward: reward.kind)
def test_a_picture_without_text_wants_an_empty_answer(reward):
    assert score(reward, "<answer> </answer>", "") == 1.0
    assert score(reward, "<answer>a</answer>", "") == 0.0


def test_worked_values():
    assert score(CharacterAccuracy(), "<answer>HELL0 WORL</answer>", "HELLO WORLD") == pytest.approx(1 - 2 / 11)
    assert score(WordAccuracy(), "<answer>open at nine daily</answer>", "open at ten daily") == 0.75
    assert score(WordF1(), "<answer>a c b</answer>", "a b c d") == pytest.approx(2 * 2 / 7)
    assert score(WordF1(order="free"), "<answer>a c b</answer>", "a b c d") == pytest.approx(2 * 3 / 7)
    assert score(Anls(), "<answer>Helo</answer>", "hello") == 0.8
    assert score(Anls(), "<answer>he</answer>", "hello") == 0.0


def test_writing_everything_twice_or_more_does_not_help():
    for reward in ALL:
        once, often = (score(reward, f"<answer>{' '.join(['a b c'] * times)}</answer>", "a b c") for times in (1, 5))
        assert often < once * 0.5
    assert score(CharacterAccuracy(), "<answer>" + "x" * 100_000 + "</answer>", "hello") == 0.0


def test_case_counts_unless_it_is_switched_off():
    assert score(CharacterAccuracy(), "<answer>open</answer>", "OPEN") == 0.0
    assert score(CharacterAccuracy(case=False), "<answer>open</answer>", "OPEN") == 1.0
    assert score(TranscriptMatch(case=False), "<answer>Straße</answer>", "STRASSE") == 1.0


def test_chinese_and_japanese_characters_are_words_and_full_width_letters_are_plain_ones():
    assert words("東京タワー opens, 9時") == ["東", "京", "タ", "ワ", "ー", "opens,", "9", "時"]
    assert words("서울 타워") == ["서울", "타워"]
    assert score(WordAccuracy(), "<answer>東京塔</answer>", "東京タワー") == pytest.approx(1 - 3 / 5)
    assert score(TranscriptMatch(), "<answer>ＯＰＥＮ</answer>", "OPEN") == 1.0


def test_the_nearest_of_several_references_counts():
    assert score(Anls(), "<answer>paris</answer>", ["London", "Paris", "Rome"]) == 1.0
    assert score(Anls(at_least=0.9), "<answer>pariss</answer>", ["Paris"]) == 0.0


def test_two_empty_texts_are_alike_and_divide_nothing_by_zero():
    assert edit_similarity("", "") == 1.0
    assert error_rate("", "") == 0.0
    assert word_f1([], []) == 1.0


def test_a_broken_target_costs_its_own_row(rollout):
    rows = [written("<answer>a</answer>", target) for target in (7, "a")]
    output = CharacterAccuracy().score(rows)
    assert output.errors == ["target.text is 7, expected a text", None]
    rows = [written("<answer>a</answer>", target) for target in ([], "a", ["a", ""], {"a": 1})]
    assert Anls().score(rows).broken.tolist() == [True, False, True, True]
    assert CharacterAccuracy().score([rollout("<answer>a</answer>")]).scores.isnan().all()


plain = st.lists(st.sampled_from("a b cc dd éa x9 Z.".split()), min_size=1, max_size=8).map(" ".join)


@given(plain, plain)
def test_rates_agree_with_jiwer_and_torchmetrics(answer, wanted):
    character, word = error_rate(answer, wanted), error_rate(words(answer), words(wanted))
    assert character == pytest.approx(min(1, jiwer.cer(wanted, answer)), abs=1e-12)
    assert word == pytest.approx(min(1, jiwer.wer(wanted, answer)), abs=1e-12)
    assert character == pytest.approx(min(1, char_error_rate(answer, wanted).item()), abs=1e-6)
    assert word == pytest.approx(min(1, word_error_rate(answer, wanted).item()), abs=1e-6)


@given(plain, plain)
def test_junk_never_raises_a_score_and_order_matters_only_where_it_should(answer, wanted):
    mixed = " ".join(random.Random(0).sample(answer.split(), len(answer.split())))
    assert word_f1(words(answer), words(wanted), "free") == word_f1(words(mixed), words(wanted), "free")
    for order in ("lines", "free"):
        assert word_f1(words(answer + " junk junk"), words(wanted), order) <= word_f1(words(answer), words(wanted), order)
        assert word_f1(words(answer), words(wanted), order) == pytest.approx(word_f1(words(wanted), words(answer), order))
    assert word_f1(words(answer), words(wanted)) <= word_f1(words(answer), words(wanted), "free")


@given(st.text(max_size=60), st.text(max_size=30))
def test_any_answer_stays_in_bounds(text, wanted):
    for wrapped in (text, f"<answer>{text}</answer>"):
        assert all(0 <= score(reward, wrapped, wanted) <= 1 for reward in ALL)
        assert 0 <= score(Anls(), wrapped, f"x{wanted}") <= 1


@given(plain, plain)
def test_word_f1_agrees_with_rouge_on_plain_words(answer, wanted):
    """In order it is ROUGE-L, in any order ROUGE-1."""
    answer, wanted = ("".join(c for c in text.lower() if c in "abcdxz9 ") for text in (answer, wanted))
    theirs = RougeScorer(["rouge1", "rougeL"]).score(wanted, answer)
    if words(answer) or words(wanted):
        assert word_f1(words(answer), words(wanted)) == pytest.approx(theirs["rougeL"].fmeasure, abs=1e-12)
        assert word_f1(words(answer), words(wanted), "free") == pytest.approx(theirs["rouge1"].fmeasure, abs=1e-12)


@given(plain, plain)
def test_anls_agrees_with_a_plain_table_of_edit_distances(answer, wanted):
    rows = [list(range(len(wanted) + 1))]
    for i, letter in enumerate(answer.casefold(), start=1):
        rows.append([i])
        for j, other in enumerate(wanted.casefold(), start=1):
            rows[i].append(min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (letter != other)))
    similarity = 1 - rows[-1][-1] / max(len(answer), len(wanted))
    expected = similarity if similarity > 0.5 + 1e-12 else 0.0
    assert score(Anls(), f"<answer>{answer}</answer>", wanted) == pytest.approx(expected, abs=1e-12)
