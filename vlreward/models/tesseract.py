"""Tesseract, a second opinion on text in pictures, run as the program that the system's package installs."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from vlreward.config import Fraction, Positive
from vlreward.data.media import Picture
from vlreward.errors import ConfigError, RewardError
from vlreward.models.ocr import Line, Reader, reading_order
from vlreward.registry import register

SPARSE = 11
"""Tesseract's page segmentation mode 'find as much text as possible in no particular order'."""
WORD = "5"
"""The level of a word in its table."""


@register("tesseract")
@dataclass(kw_only=True)
class Tesseract(Reader):
    """Tesseract's LSTM recogniser, one process a picture, each on one thread; it tells words, not characters, apart by confidence."""

    languages: str = "eng"
    """Its names of installed languages, joined by +."""
    at_least: Fraction = 0.3
    """Confidence below which a word is dropped."""
    seconds: Positive = 60.0
    """A picture that takes longer is given up."""

    def load(self, device: str) -> None:
        if not re.fullmatch(r"\w+(\+\w+)*", self.languages):
            raise ConfigError(f"is {self.languages!r}, expected names such as eng+deu", "languages")
        program = shutil.which("tesseract")
        if program is None:
            raise ConfigError("the reader 'tesseract' needs the program: apt install tesseract-ocr (or brew install tesseract)")
        self._command = [program, "-", "-", "--psm", str(SPARSE), "-l", self.languages, "tsv"]

    def read(self, pictures: Sequence[Picture]) -> list[list[Line]]:
        images = [picture.png() for picture in pictures]
        found = {image: self._words(image) for image in dict.fromkeys(images)}
        return [found[image] for image in images]

    def _words(self, png: bytes) -> list[Line]:
        environment = os.environ | {"OMP_THREAD_LIMIT": "1"}
        try:
            done = subprocess.run(self._command, input=png, capture_output=True, env=environment, timeout=self.seconds, check=True)
        except subprocess.TimeoutExpired as error:
            raise RewardError(f"tesseract took more than {self.seconds:g} s for a picture") from error
        except subprocess.CalledProcessError as error:
            reason = error.stderr.decode(errors="replace").strip().splitlines()
            raise RewardError(f"tesseract failed: {reason[0] if reason else error.returncode}") from error
        table = csv.DictReader(done.stdout.decode(errors="replace").splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
        lines = []
        for row in table:
            if row["level"] == WORD and row["text"].strip() and float(row["conf"]) / 100 >= self.at_least:
                left, top, width, height = (float(row[name]) for name in ("left", "top", "width", "height"))
                lines.append(Line(row["text"], (left, top, left + width, top + height), float(row["conf"]) / 100))
        return reading_order(lines)
