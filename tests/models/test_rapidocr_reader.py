import random
import sys

import numpy as np
import pytest
from PIL import Image

from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.models import rapidocr_reader
from vlreward.models.rapidocr_reader import RapidOcr, load_reader
from vlreward.tiny.signs import Sign, sign


@pytest.fixture(scope="module")
def reader() -> RapidOcr:
    pytest.importorskip("rapidocr")
    made = RapidOcr()
    made.load("cpu")
    return made


def words(lines) -> list[str]:
    return [word for line in lines for word in line.text.split()]


def test_signs_are_read_as_rapidocr_itself_reads_them(reader):
    from rapidocr import RapidOCR

    theirs = RapidOCR(params={"Global.log_level": "error", "Det.limit_side_len": 64})
    signs = [sign(random.Random(seed)) for seed in range(6)]
    for view, lines in zip(signs, reader.read([Picture(view.picture()) for view in signs])):
        result = theirs(np.asarray(view.picture())[:, :, ::-1])
        assert sorted(line.text for line in lines) == sorted(result.txts)
        assert min(line.score for line in lines) == pytest.approx(min(result.scores), abs=0.05)


def test_small_and_large_pictures_are_read(reader):
    small = Sign("night museum", "DejaVuSans", "black", 9)
    page = Image.new("RGB", (1400, 900), "white")
    page.paste(Sign("OPEN 24 hours", "DejaVuSerif", "navy", 20).picture(), (700, 500))
    strip = Picture(np.full((2, 3000, 3), 255, np.uint8))
    found = reader.read([Picture(small.picture()), Picture(page), strip])
    assert [words(lines) for lines in found] == [["night", "museum"], ["OPEN", "24", "hours"], []]
    left, top, right, bottom = found[1][0].box
    assert 700 <= left < right <= 1000 and 500 <= top < bottom <= 600


def test_every_character_has_its_options(reader):
    [[line]] = reader.read([Picture(Sign("River", "DejaVuSans", "black", 32).picture())])
    assert line.text == "River"
    assert [max(options, key=options.__getitem__) for options in line.options] == list("River")
    assert all(0 < share <= 1.000001 for options in line.options for share in options.values())


def test_a_picture_reads_alike_alone_and_among_others_and_equal_ones_are_read_once(reader, monkeypatch):
    views = [Picture(sign(random.Random(seed)).picture()) for seed in range(3)]
    together = reader.read([*views, Picture(views[0].pil.copy())])
    alone = [reader.read([view])[0] for view in views]
    assert [[line.text for line in lines] for lines in together[:3]] == [[line.text for line in lines] for lines in alone]
    shares = [[[o[c] for c, o in zip(line.text, line.options)] for line in lines] for lines in (*together[:3], *alone)]
    flat = [[share for line in lines for share in line] for lines in shares]
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(flat[:3], flat[3:]))
    assert together[3] == together[0]
    seen = []
    monkeypatch.setattr(rapidocr_reader.Networks, "detect", lambda self, image: seen.append(image.shape) or np.zeros((0, 4, 2)))
    reader.read([*views, Picture(views[0].pil.copy())])
    assert len(seen) == 3


def test_without_the_extra_the_remedy_is_named(monkeypatch):
    load_reader.cache_clear()
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(ConfigError, match=r"needs the extra 'ocr': pip install 'vlreward\[ocr\]'"):
        load_reader()


def test_another_recogniser_must_be_an_onnx_file_with_its_characters(tmp_path):
    rapidocr = pytest.importorskip("rapidocr")
    from pathlib import Path

    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"recognizer: .*not a readable ONNX model|not a readable ONNX model"):
        load_reader(tmp_path / "x.onnx")
    shipped = Path(rapidocr.__file__).parent / "models"
    with pytest.raises(ConfigError, match="does not carry its characters"):
        load_reader(shipped / "PP-OCRv6_det_small.onnx")
    again = RapidOcr(recognizer=shipped / "PP-OCRv6_rec_small.onnx")
    again.load("cpu")
    assert words(again.read([Picture(Sign("OPEN", "DejaVuSans", "black", 28).picture())])[0]) == ["OPEN"]
