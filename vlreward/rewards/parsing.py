"""What an answer says of places and times: text in, numbers as written out. No picture, no frame and no reward is known here.

Read are JSON (fenced or not; `bbox_2d` and `point_2d` with `label`; of truncated JSON every object that is complete), the tokens of
Qwen-VL `<|box_start|>(x1,y1),(x2,y2)<|box_end|>` (also after a tokenizer has stripped them), and plain lists `[x1, y1, x2, y2]`.
Boxes that start with y (`box_2d` of Gemini, `<loc>` of PaliGemma) are not read: taken for xyxy they would be wrong silently.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Sequence, Sized
from typing import Any

import numpy as np
import orjson

NUMBER = r"[-+]?+(?:\d++\.?+\d*+|\.\d++)(?:[eE][-+]?+\d++)?+"
PAIR = rf"\s*+{NUMBER}\s*+,\s*+{NUMBER}\s*+"
BOX = re.compile(rf"[\[(]({PAIR}(?:,|[\])]\s*+,\s*+[\[(]){PAIR})[\])]")
ITEMS = r"([-+.,eE0-9 \d\s]++)[\])]"  # 0-9 and the blank are in \d and \s too, but are told twice as fast so
LIST, BRACKETED = re.compile(r"[\[(]" + ITEMS), re.compile(r"\[" + ITEMS)
POINT = re.compile(rf"[\[(]({PAIR})[\])]")
FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)
OBJECT = re.compile(r"\{[^{}]*+\}")
TAG = re.compile(r"<[^<>]*+>")
CLOCK = r"(?:\d++:)?\d++:\d++(?:\.\d++)?+|\d++\.?+\d*+|\.\d++"
SECONDS = r"\s*+(?:s(?:ec(?:ond)?s?)?\b)?+\s*+"
SPAN = re.compile(
    rf"(?<![\w.:+-])(?P<a>{CLOCK}){SECONDS}(?:,|-|–|—|~|to\b|and\b|until\b)\s*+(?P<b>{CLOCK})(?![.:]?\d)"
    rf"|\"?start(?:_time)?\"?\s*+[:=]\s*+(?P<c>{CLOCK}){SECONDS},?\s*+\"?end(?:_time)?\"?\s*+[:=]\s*+(?P<d>{CLOCK})",
    re.IGNORECASE,
)
BOX_KEYS = ("bbox_2d", "bbox", "box")
BRACKETS = str.maketrans("", "", "[]()")


def read_boxes(answers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """[N,4] the four numbers of every box in B answers, one answer after the other, and [B] how many each has.

    Numbers are as written: any sign and order, infinite where too large for a float.
    """
    plain = _plain_lists(answers, 4)
    if plain is not None:
        return plain
    found = [BOX.findall(answer) for answer in answers]
    return _numbers(itertools.chain.from_iterable(found)).reshape(-1, 4), _lengths(found)


def read_points(answers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """[N,2] every `[x, y]` or `(x, y)` of B answers, one answer after the other, and [B] how many each has.

    Of an answer without any, the centres of its boxes `[x1, y1, x2, y2]`.
    """
    plain = _plain_lists(answers, 2)
    if plain is not None:
        return plain
    found = [_points_or_centres(answer) for answer in answers]
    return np.concatenate([np.empty((0, 2)), *found]), _lengths(found)


def read_labelled(answers: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """[N] the labels and [N,4] the numbers of every box in B answers, one answer after the other, and [B] how many each has.

    Read are JSON objects or, in an answer without any, boxes with the text before each as its label. An object without a readable box
    has four NaN; a missing label is ''.
    """
    found = [OBJECT.findall(answer) for answer in answers]
    parsed = iter(_parsed(list(itertools.chain.from_iterable(found))))
    rows = [list(itertools.islice(parsed, len(texts))) or _from_text(answer) for texts, answer in zip(found, answers, strict=True)]
    entries = list(itertools.chain.from_iterable(rows))
    return [label_of(entry) for entry in entries], _boxes(entries), _lengths(rows)


def read_objects(answer: str) -> list[dict[str, Any]]:
    """Every complete JSON object without objects in it; one that does not parse (even with ' for ") is {}."""
    return _parsed(OBJECT.findall(answer))


def box_of(entry: dict[str, Any]) -> list[float]:
    """The four numbers under `bbox_2d`, `bbox` or `box` of a JSON object; NaN where there are not four."""
    box = next((entry[key] for key in BOX_KEYS if key in entry), None)
    if isinstance(box, list) and len(box) == 4 and all(isinstance(value, int | float) for value in box):
        with contextlib.suppress(OverflowError):
            return [float(value) for value in box]
    return [math.nan] * 4


def label_of(entry: dict[str, Any]) -> str:
    """The `label` of a JSON object, '' where it is missing or no text."""
    label = entry.get("label")
    return label if isinstance(label, str) else ""


def read_spans(answer: str) -> list[tuple[float, float]]:
    """Every span of time of an answer in seconds, as written (an end may come before its start).

    Read are `12.5 - 20 s`, `from 0:12 to 1:02.5`, `[12.5, 20]` and `{"start": 12.5, "end": 20}`.
    """
    found = []
    for match in SPAN.finditer(answer):
        start, end = (match["a"], match["b"]) if match["a"] else (match["c"], match["d"])
        found.append((_seconds(start), _seconds(end)))
    return found


def says_none(answer: str) -> bool:
    """Whether an answer says outright that there is nothing: 'none', 'None.', or an empty list, fenced or not."""
    bare = unfenced(answer)
    return bare.rstrip(".").casefold() == "none" or re.fullmatch(r"\[\s*\]", bare) is not None


def unfenced(answer: str) -> str:
    """An answer without the ```json fence that it may stand in."""
    match = FENCE.fullmatch(answer.strip())
    return match.group(1) if match else answer.strip()


def _plain_lists(answers: Sequence[str], size: int) -> tuple[np.ndarray, np.ndarray] | None:
    """[N,size] the lists of numbers in B answers, and [B] how many each has; None unless every list is one of `size` JSON numbers.

    Nearly always it is, and is read so in half of the time.
    """
    found = [(LIST if "(" in answer else BRACKETED).findall(answer) for answer in answers]
    lists = list(itertools.chain.from_iterable(found))
    if {text.count(",") for text in lists} != {size - 1}:
        return None
    try:
        return _json_numbers(lists).reshape(-1, size), _lengths(found)
    except (ValueError, OverflowError):
        return None


def _lengths(found: Sequence[Sized]) -> np.ndarray:
    return np.fromiter(map(len, found), np.int64, len(found))


def _points_or_centres(answer: str) -> np.ndarray:
    points = _numbers(POINT.findall(answer)).reshape(-1, 2)
    if len(points):
        return points
    boxes = read_boxes([answer])[0]
    with np.errstate(invalid="ignore"):  # infinite on both sides
        return (boxes[:, :2] + boxes[:, 2:]) / 2


def _numbers(found: Iterable[str]) -> np.ndarray:
    """[N] the numbers of texts such as '1, 2' or '1, 2), (3, 4'."""
    texts = [text.translate(BRACKETS) for text in found]
    try:
        return _json_numbers(texts)
    except (ValueError, OverflowError):  # JSON knows neither '.5' nor '+5' nor '05', and an integer of its can be too large
        return np.array([float(number) for text in texts for number in text.split(",")], dtype=np.float64)


def _json_numbers(texts: list[str]) -> np.ndarray:
    return np.array(_loads(f"[{','.join(texts)}]"), dtype=np.float64)


def _seconds(text: str) -> float:
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def _from_text(answer: str) -> list[dict[str, Any]]:
    """Boxes outside of JSON, each with the text since the one before as its label."""
    text, found, start = TAG.sub(" ", answer), [], 0
    for match in BOX.finditer(text):
        label = text[start : match.start()].strip(" \t\r\n:;,.-*[]()\"'`")
        found.append({"bbox_2d": _numbers([match.group(1)]).tolist(), "label": label})
        start = match.end()
    return found


def _boxes(entries: list[dict[str, Any]]) -> np.ndarray:
    """[N,4] what box_of gives for each entry"""
    try:
        boxes = np.array([entry["bbox_2d"] for entry in entries])
        if boxes.ndim == 2 and boxes.shape[1] == 4 and boxes.dtype.kind in "if":
            return boxes.astype(np.float64)
    except (KeyError, ValueError, OverflowError):
        pass  # some entry has no such box; the others are read below
    return np.array([box_of(entry) for entry in entries], dtype=np.float64).reshape(-1, 4)


def _parsed(texts: list[str]) -> list[dict[str, Any]]:
    """JSON objects from their texts, {} for what does not parse."""
    entries = _json(f"[{','.join(texts)}]")
    if entries is None or len(entries) != len(texts):  # a stray quote can make one of two
        entries = [_json(text) or _json(text.replace("'", '"')) for text in texts]
    return [entry if isinstance(entry, dict) else {} for entry in entries]


def _json(text: str) -> Any:
    try:
        return _loads(text)
    except (ValueError, RecursionError):
        return None


def _loads(text: str) -> Any:
    """json.loads, in less time where the text is strict JSON; NaN, infinite numbers and lone surrogates are not."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)
