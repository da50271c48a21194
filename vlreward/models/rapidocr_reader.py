"""PP-OCR's text detector and recogniser on onnxruntime, from the models that RapidOCR's wheel carries."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlreward.config import Count, Fraction, locate
from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.models.ocr import Line, Reader, reading_order
from vlreward.registry import register

MIN_SIDE = 64
"""The detector sees smaller pictures enlarged to this. RapidOCR enlarges to 736, which costs up to 30 times more and reads no better."""
USUAL_SIDE, MAX_SIDE = 736, 2000
"""Pixels of the longer side that the detector sees: larger pictures are shrunk towards the first by at most half, and to the second."""
LINE_HEIGHT, WIDTH_STEP = 48, 80
"""Pixels of the crops that the recogniser sees; widths are padded to a multiple, so that a line reads alike in every batch."""
CHUNK = 8
"""Crops recognised in one call."""
FAINT = 1e-3
"""Characters less probable than this are left out of a line's options."""


@register("rapidocr")
@dataclass(kw_only=True)
class RapidOcr(Reader):
    """PP-OCR models (multilingual, upright text) without RapidOCR's loop: small detector input, narrow crops, equal pictures read once.

    RapidOCR's angle classifier is left out: text that stands on its head reads as nonsense.
    """

    recognizer: Path | None = None
    """Another CTC recogniser in PaddleOCR's ONNX form, with its characters in the metadata (an `en_PP-OCRv5_rec` file, say)."""
    at_least: Fraction = 0.5
    """Mean confidence below which a line is dropped."""
    threads: Count | None = None
    """PyTorch's number by default."""

    def load(self, device: str) -> None:
        self._reader = load_reader(self.recognizer, self.threads or torch.get_num_threads())

    def read(self, pictures: Sequence[Picture]) -> list[list[Line]]:
        images = [np.ascontiguousarray(np.asarray(picture.pil)[:, :, ::-1]) for picture in pictures]
        keys = [(image.shape, hashlib.blake2b(image.data).digest()) for image in images]
        distinct = dict(zip(keys, images))
        found = dict(zip(distinct, self._reader.lines(list(distinct.values()), self.at_least)))
        return [found[key] for key in keys]


@dataclass(frozen=True)
class Networks:
    """The two onnxruntime sessions, the decoder of the detector's map, and the recogniser's characters (blank first, space last)."""

    detector: Any
    recognizer: Any
    decode: Any
    characters: tuple[str, ...]

    def lines(self, images: Sequence[np.ndarray], at_least: float) -> list[list[Line]]:
        """The lines of each BGR image [H,W,3] uint8 in reading order."""
        from rapidocr.utils.process_img import get_rotate_crop_image

        owners, boxes, crops = [], [], []
        for owner, image in enumerate(images):
            for corners in self.detect(image):
                owners.append(owner)
                boxes.append(corners)
                crops.append(get_rotate_crop_image(image, corners.astype(np.float32)))
        found: list[list[Line]] = [[] for _ in images]
        for owner, corners, (text, score, options) in zip(owners, boxes, self.recognize(crops), strict=True):
            if text.strip() and score >= at_least:
                (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
                found[owner].append(Line(text, (left, top, right, bottom), score, options))
        return [reading_order(lines) for lines in found]

    def detect(self, image: np.ndarray) -> np.ndarray:
        """Corners [N,4,2] of the pieces of text, in pixels of the image, clockwise from the upper left."""
        import cv2

        height, width = image.shape[:2]
        zoom = max(MIN_SIDE / min(height, width), 1.0)
        longer = max(height, width) * zoom
        zoom *= min(max(USUAL_SIDE / longer, 0.5), MAX_SIDE / longer, 1.0)
        size = [max(32, round(side * zoom / 32) * 32) for side in (width, height)]
        pixels = cv2.resize(image, size).astype(np.float32) / 127.5 - 1
        heat = self.detector.run(None, {self.detector.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None]})[0]
        return np.asarray(self.decode(heat, (height, width))[0]).reshape(-1, 4, 2)

    def recognize(self, crops: Sequence[np.ndarray]) -> list[tuple[str, float, tuple[Mapping[str, float], ...]]]:
        """Text, mean confidence and each character's options, per crop [H,W,3]."""
        widths = [max(1, math.ceil(LINE_HEIGHT * crop.shape[1] / crop.shape[0] / WIDTH_STEP)) * WIDTH_STEP for crop in crops]
        read: dict[int, tuple[str, float, tuple[Mapping[str, float], ...]]] = {}
        for width, group in groupby(sorted(range(len(crops)), key=widths.__getitem__), widths.__getitem__):
            same = list(group)
            for start in range(0, len(same), CHUNK):
                chunk = same[start : start + CHUNK]
                pixels = np.stack([_line_pixels(crops[i], width) for i in chunk])
                probability_BTC = self.recognizer.run(None, {self.recognizer.get_inputs()[0].name: pixels})[0]
                read |= {i: self.spell(probability_TC) for i, probability_TC in zip(chunk, probability_BTC, strict=True)}
        return [read[i] for i in range(len(crops))]

    def spell(self, probability_TC: np.ndarray) -> tuple[str, float, tuple[Mapping[str, float], ...]]:
        """The best CTC path as text; a character is as probable as in the surest of its frames."""
        best = probability_TC.argmax(1)
        text, options, scores = [], [], []
        for label, frames in groupby(range(len(best)), best.__getitem__):
            if label:
                peak = probability_TC[list(frames)].max(0)
                text.append(self.characters[label])
                options.append({self.characters[i]: float(peak[i]) for i in np.flatnonzero(peak >= FAINT) if i})
                scores.append(float(peak[label]))
        return "".join(text), float(np.mean(scores)) if scores else 0.0, tuple(options)


def _line_pixels(crop: np.ndarray, width: int) -> np.ndarray:
    """[3,48,width] in [-1, 1], on the right padded with 0."""
    import cv2

    natural = min(width, max(1, math.ceil(LINE_HEIGHT * crop.shape[1] / crop.shape[0])))
    pixels = np.zeros((3, LINE_HEIGHT, width), np.float32)
    pixels[:, :, :natural] = cv2.resize(crop, (natural, LINE_HEIGHT)).astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
    return pixels


@cache
def load_reader(recognizer: Path | None = None, threads: int = 1) -> Networks:
    """The shared networks. Raises ConfigError without the extra 'ocr' or where `recognizer` is no such file."""
    try:
        import rapidocr
        from onnxruntime import InferenceSession, SessionOptions  # type: ignore[attr-defined]
        from rapidocr.ch_ppocr_det.utils import DBPostProcess
    except ImportError as error:
        raise ConfigError("reward 'ocr_match' needs the extra 'ocr': pip install 'vlreward[ocr]'") from error
    shipped = Path(rapidocr.__file__).parent / "models"
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4

    def session(path: Path) -> Any:
        try:
            return InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ConfigError(f"{path}: not a readable ONNX model ({str(error).splitlines()[0]})", "recognizer") from error

    network = session(locate(recognizer) if recognizer else shipped / "PP-OCRv6_rec_small.onnx")
    characters = network.get_modelmeta().custom_metadata_map.get("character")
    if not characters:
        raise ConfigError(f"{recognizer} does not carry its characters in the metadata, as PaddleOCR's ONNX recognisers do", "recognizer")
    decode = DBPostProcess(thresh=0.3, box_thresh=0.5, unclip_ratio=1.6, use_dilation=True)
    return Networks(session(shipped / "PP-OCRv6_det_small.onnx"), network, decode, ("", *characters.splitlines(), " "))
