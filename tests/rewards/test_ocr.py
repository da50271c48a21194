import pytest

from vlreward.data.media import Picture
from vlreward.models.ocr import Line, reading_order
from vlreward.rewards.ocr import OcrMatch, text_similarity
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


def test_without_the_extra_the_remedy_is_named(monkeypatch):
    import sys

    from vlreward.errors import ConfigError
    from vlreward.models import ocr

    ocr.load_reader.cache_clear()
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(ConfigError, match=r"needs the extra 'ocr': pip install 'vlreward\[ocr\]'"):
        ocr.load_reader()
