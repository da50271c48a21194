import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from vlreward.data.media import Picture
from vlreward.errors import ConfigError, RewardError
from vlreward.models.tesseract import Tesseract
from vlreward.tiny.signs import Sign

COLUMNS = "level page_num block_num par_num line_num word_num left top width height conf text".split()
WORDS = [(40, 5, 30, 10, 96.5, '"night'), (5, 6, 30, 10, 90.0, "open"), (80, 5, 9, 9, 12.0, "junk"), (5, 40, 30, 10, 88.0, "late")]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a program called tesseract first on the path, which runs the given Python."""

    def build(code: str) -> None:
        path = tmp_path / "tesseract"
        path.write_text(f"#!{sys.executable}\nimport sys\n{code}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return build


def white() -> Picture:
    return Picture(np.full((60, 100, 3), 255, np.uint8))


def test_its_words_come_in_reading_order_and_junk_is_dropped(program):
    rows = ["\t".join(COLUMNS), "\t".join(["4", *["1"] * 9, "-1", ""])]
    rows += ["\t".join(map(str, ["5", 1, 1, 1, 1, 1, *word[:4], word[4], word[5]])) for word in WORDS]
    program(f"assert sys.stdin.buffer.read(4) == b'\\x89PNG'\nprint({chr(10).join(rows)!r})")
    reader = Tesseract()
    reader.load("cpu")
    [first, second] = reader.read([white(), white()])
    assert [line.text for line in first] == ["open", '"night', "late"]
    assert first[1].box == (40, 5, 70, 15)
    assert first[1].score == pytest.approx(0.965)
    assert first == second


def test_a_failing_or_stuck_program_is_the_judges_fault(program):
    program("sys.exit('Failed loading language xyz')")
    reader = Tesseract(languages="xyz")
    reader.load("cpu")
    with pytest.raises(RewardError, match="tesseract failed: Failed loading language xyz"):
        reader.read([white()])
    program("import time; time.sleep(60)")
    slow = Tesseract(seconds=0.2)
    slow.load("cpu")
    with pytest.raises(RewardError, match=r"more than 0\.2 s"):
        slow.read([white()])


def test_without_the_program_the_remedy_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="apt install tesseract-ocr"):
        Tesseract().load("cpu")


def test_a_language_is_a_name_not_an_option():
    with pytest.raises(ConfigError, match=r"expected names such as eng\+deu"):
        Tesseract(languages="eng --tessdata-dir /").load("cpu")


def test_the_real_program_reads_a_sign():
    if not shutil.which("tesseract"):
        pytest.skip("needs the program tesseract: apt install tesseract-ocr")
    reader = Tesseract()
    reader.load("cpu")
    [lines] = reader.read([Picture(Sign("Open daily", "DejaVuSans", "black", 40).picture())])
    assert [line.text for line in lines] == ["Open", "daily"]
    assert Path(shutil.which("tesseract") or "").exists()
