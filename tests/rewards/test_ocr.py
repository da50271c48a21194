import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlreward.config import part, resolved
from vlreward.data.media import Clip, Picture
from vlreward.errors import ConfigError, RewardError
from vlreward.models.ocr import Line, Reader, reading_order
from vlreward.rewards.ocr import CERTAIN, DOUBTED, OcrMatch, certainty, glyph_similarity, text_similarity
from vlreward.tiny.signs import FONTS, Sign
from vlreward.types import Rollout, Sample


@pytest.mark.parametrize(
    ("read", "wanted", "score"),
    [
        ("OPEN", "OPEN", 1.0),
        ("", "", 1.0),
        ("", "OPEN", 0.0),
        ("OPEN", "", 0.0),
        ("HELL0", "HELLO", 0.8),
        ("open", "OPEN", 0.0),
        ("OPEN OPEN", "OPEN", 0.5),
        ("OPEN daily from nine", "OPEN", 4 / 17),
        ("O P E N", "OPEN", 1.0),
        ("ＯＰＥＮ", "OPEN", 1.0),
    ],
)
def test_similarity_is_symmetric_edit_similarity(read, wanted, score):
    assert text_similarity(read, wanted) == pytest.approx(score)
    assert text_similarity(wanted, read) == pytest.approx(score)


def test_case_can_be_ignored_and_order_can_be_free():
    assert text_similarity("open", "OPEN", case=False) == 1.0
    assert text_similarity("nine open", "open nine", "lines") < 0.5
    assert text_similarity("nine open", "open nine", "free") == 1.0
    assert text_similarity("nine open open", "open nine", "free") == pytest.approx(8 / 12)
    assert text_similarity("", "open", "free") == 0.0


def test_lines_are_put_into_reading_order():
    def line(text, x, y):
        return Line(text, (x, y, x + 10, y + 10), 1.0)

    found = reading_order([line("d", 20, 31), line("b", 20, 2), line("a", 0, 0), line("c", 0, 30)])
    assert [piece.text for piece in found] == ["a", "b", "c", "d"]


def sign(text: str, font: str = FONTS[0]) -> Picture:
    return Picture(Sign(text, font, "black", 28).picture())


def rollout(picture: Picture, text) -> Rollout:
    return Rollout(sample=Sample(id="s", prompt="p", target={"text": text}), made=picture)


def test_a_printed_sign_is_read_and_extra_text_and_blanks_do_not_pay():
    pytest.importorskip("rapidocr")
    blank = Picture(sign("x").pil.point(lambda _: 255))
    rows = [
        rollout(sign("OPEN 24"), "OPEN 24"),
        rollout(sign("OPEN 24\nOPEN 24"), "OPEN 24"),
        rollout(blank, "OPEN 24"),
        rollout(blank, ""),
        rollout(sign("OPEN 24"), 24),
    ]
    output = OcrMatch().score(rows)
    assert output.scores[:4].tolist() == pytest.approx([1.0, 0.5, 0.0, 1.0])
    assert output.errors[4] == "target.text is 24, expected a text"
    assert output.notes[0] == "read 'OPEN 24'"
    assert output.marks[0][0].role == "found"


class Scripted(Reader):
    """Reads what it was told to, whatever the picture."""

    kind = "scripted"

    def __init__(self, *words: str, **sure: float):
        self.words, self.sure = words, sure

    def read(self, pictures):
        line = [Line(word, (0, 0, 9, 9), 1.0, tuple({c: self.sure.get(c, 0.99999)} for c in word)) for word in self.words]
        return [line for _ in pictures]


def judged(reward: OcrMatch, wanted: str) -> float:
    output = reward.score([rollout(Picture(np.zeros((8, 8, 3), np.uint8)), wanted)])
    assert output.errors == [None]
    return output.scores.item()


def test_certainty_rises_with_the_log_odds():
    assert certainty(0.0) == certainty(0.95) == 0.0
    assert certainty(1.0) == certainty(0.9992) == 1.0
    middle = 1 / (1 + math.exp(-(DOUBTED + CERTAIN) / 2))
    assert certainty(middle) == pytest.approx(0.5)


def test_a_character_read_as_wanted_but_not_surely_costs_its_doubt():
    half = 1 / (1 + math.exp(-(DOUBTED + CERTAIN) / 2))
    assert judged(OcrMatch(readers=(Scripted("HELLO", O=half),)), "HELLO") == pytest.approx(1 - 0.5 / 5)
    assert judged(OcrMatch(readers=(Scripted("HELLO", O=0.5),)), "HELLO") == pytest.approx(0.8)
    assert judged(OcrMatch(readers=(Scripted("HELLO", X=0.5),)), "HELLO") == 1.0


def test_doubt_about_a_wrong_character_changes_nothing_and_scores_never_fall_below_zero():
    assert judged(OcrMatch(readers=(Scripted("HELLX", X=0.5),)), "HELLO") == pytest.approx(0.8)
    assert judged(OcrMatch(readers=(Scripted("aXb", a=0.5, b=0.5),)), "ab") == 0.0
    assert judged(OcrMatch(readers=(Scripted("bca", a=0.5, b=0.5, c=0.5),)), "abc") == 0.0


def test_what_counts_as_the_same_character_is_added_up():
    line = [Line("o", (0, 0, 9, 9), 1.0, ({"o": 0.6, "O": 0.3999, "Ｏ": 0.0001},))]
    assert glyph_similarity(line, "o") == 0.0
    assert glyph_similarity(line, "O", case=False) == 1.0


@pytest.mark.parametrize("order", ["lines", "free"])
def test_doubt_counts_in_either_order(order):
    assert judged(OcrMatch(readers=(Scripted("OPEN", "NOW", W=0.5),), order=order), "OPEN NOW") == pytest.approx(6 / 7)


def test_the_lowest_of_several_readers_counts_and_gives_the_note():
    output = OcrMatch(readers=(Scripted("HELLO"), Scripted("HELL0"))).score([rollout(sign("x"), "HELLO")])
    assert output.scores.item() == pytest.approx(0.8)
    assert {name: values.item() for name, values in output.parts.items()} == pytest.approx({"0_scripted": 1.0, "1_scripted": 0.8})
    assert output.notes == ["read 'HELL0'"]
    assert output.marks[0][0].label == "HELL0"


def test_doubtful_characters_stand_in_the_note():
    output = OcrMatch(readers=(Scripted("HELLO", O=0.9),)).score([rollout(sign("x"), "HELLO")])
    assert output.notes == ["read 'HELLO'; unsure of O 0.900"]


def test_a_prompt_without_quotes_or_a_target_does_not_apply_and_a_broken_picture_costs_its_row(tmp_path):
    (tmp_path / "x.png").write_bytes(b"not a picture")
    rows = [
        Rollout(sample=Sample(id="s", prompt="a sign"), made=sign("x")),
        rollout(Picture(tmp_path / "x.png"), "A"),
        rollout(sign("A"), "A"),
    ]
    output = OcrMatch(readers=(Scripted("A"),)).score(rows)
    assert output.errors[0] is None and output.scores[0].isnan()
    assert "not a readable picture" in (output.errors[1] or "")
    assert output.scores[2] == 1.0


def test_a_picture_that_a_reader_fails_on_costs_its_own_row():
    class Failing(Scripted):
        def read(self, pictures):
            if any(picture.size == (9, 9) for picture in pictures):
                raise RewardError("the reader broke")
            return super().read(pictures)

    rows = [rollout(Picture(np.zeros((side, side, 3), np.uint8)), "A") for side in (8, 9, 7)]
    for reward in (OcrMatch(readers=(Failing("A"),)), OcrMatch(readers=(Scripted("A"), Failing("A")))):
        output = reward.score(rows)
        assert output.errors == [None, "the reader broke", None]
        assert output.scores[[0, 2]].tolist() == [1.0, 1.0]


def test_a_clip_is_judged_by_its_middle_frame():
    seen = []

    class Looking(Scripted):
        def read(self, pictures):
            seen.extend(picture.tensor.mean().item() for picture in pictures)
            return super().read(pictures)

    clip = Clip(torch.stack([torch.full((3, 8, 8), level) for level in (0.0, 0.5, 1.0)]))
    output = OcrMatch(readers=(Looking("A"),)).score([Rollout(sample=Sample(id="s", prompt="p", target={"text": "A"}), made=clip)])
    assert output.scores.item() == 1.0
    assert seen == pytest.approx([0.5])


def test_a_reward_without_readers_is_refused():
    with pytest.raises(ConfigError, match="at least one reader"):
        OcrMatch(readers=())


@given(st.lists(st.tuples(st.text(max_size=8), st.floats(0, 1)), max_size=4), st.text(max_size=20), st.booleans())
def test_any_reading_and_any_target_stay_in_bounds(read, wanted, case):
    lines = [Line(text, (0, 0, 1, 1), sure, tuple({c: sure} for c in text)) for text, sure in read]
    for order in ("lines", "free"):
        assert 0 <= glyph_similarity(lines, wanted, order, case) <= 1


def drawn(text: str, font: str = "STIXGeneral") -> Picture:
    return Picture(Sign(text, font, "black", 48).picture())


def test_look_alikes_that_the_recogniser_mends_lose_and_the_right_ones_do_not():
    pytest.importorskip("rapidocr")
    right = ["HELLO WORLD", "COFFEE", "google", "model", "SALE"]
    wrong = [
        ("HELL0 W0RLD", "HELLO WORLD", 0.85),
        ("C0FFEE", "COFFEE", 0.95),
        ("goog1e", "google", 0.85),
        ("rnodel", "model", 0.67),
        ("5ALE", "SALE", 0.75),
    ]
    rows = [rollout(drawn(text), text) for text in right] + [rollout(drawn(text), wanted) for text, wanted, _ in wrong]
    scores = OcrMatch().score(rows).scores
    assert scores[:5].mean() > 0.95 and scores[:5].min() > 0.85
    assert all(score <= most for score, (_, _, most) in zip(scores[5:].tolist(), wrong))


def test_readers_are_named_in_the_configuration():
    reward = part("rewards", {"kind": "ocr_match", "readers": ["rapidocr", {"kind": "tesseract", "languages": "deu"}]})
    assert [reader["kind"] for reader in resolved(reward)["readers"]] == ["rapidocr", "tesseract"]
    with pytest.raises(ConfigError, match=r"readers\.0\.kind: no reader is called 'tesserakt'. Did you mean 'tesseract'?"):
        part("rewards", {"kind": "ocr_match", "readers": ["tesserakt"]})
