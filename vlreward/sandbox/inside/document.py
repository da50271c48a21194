"""The figure as it leaves the script's process: a JSON header and one block of numbers. Reading it runs nothing and trusts nothing."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

DPI = 100
MAX_PIXELS = 8_000_000
"""Of a figure; matplotlib's default one has 307,200."""
MAX_OPERATIONS = 50_000
KINDS = {"f": np.dtype("<f8"), "u": np.dtype("u1")}


def fits(width: int, height: int) -> bool:
    """Whether a figure of this size is drawn."""
    return width > 0 and height > 0 and width * height <= MAX_PIXELS


class Broken(Exception):
    """A document that no honest recorder writes."""


class Writer:
    """Collects arrays; `array` gives the reference that stands for one in the header."""

    def __init__(self):
        self.block = bytearray()

    def array(self, values: Any, kind: str = "f") -> list:
        """Keep an array as float64 (f) or uint8 (u), masked values as NaN or 0. Gives [kind, first byte, shape]."""
        data = np.ascontiguousarray(np.ma.filled(np.ma.asarray(values, KINDS[kind]), np.nan if kind == "f" else 0))
        start = len(self.block)
        self.block += data.tobytes()
        self.block += bytes(-len(self.block) % 8)
        return [kind, start, list(data.shape)]

    def finish(self, header: dict) -> bytes:
        """The whole document: the length of the header, the header as JSON, the bytes of all arrays."""
        text = json.dumps(header, separators=(",", ":")).encode()
        return struct.pack("<I", len(text)) + text + bytes(self.block)


class Reader:
    """The header of a document and its arrays. Raises Broken."""

    def __init__(self, data: bytes):
        try:
            (length,) = struct.unpack_from("<I", data)
            self.header = json.loads(data[4 : 4 + length])
        except (struct.error, ValueError, RecursionError) as error:
            raise Broken(f"no header ({type(error).__name__})") from None
        if not isinstance(self.header, dict) or not isinstance(self.header.get("outcome"), str):
            raise Broken("the header says no outcome")
        self.block = memoryview(data)[4 + length :]

    def array(self, reference: Any, shape: tuple[int | None, ...] = ()) -> np.ndarray:
        """The array behind a reference; `shape` holds the lengths it must have, None for any."""
        if not isinstance(reference, list) or len(reference) != 3 or reference[0] not in KINDS:
            raise Broken("not a reference to an array")
        kind, start, lengths = reference
        whole = isinstance(start, int) and isinstance(lengths, list) and all(isinstance(n, int) and n >= 0 for n in lengths)
        if not whole or start < 0 or len(lengths) > 3:
            raise Broken("a reference to an array is malformed")
        if shape and (len(shape) != len(lengths) or any(want not in (None, got) for want, got in zip(shape, lengths, strict=True))):
            raise Broken(f"an array of shape {lengths}, expected {shape}")
        count = 1
        for length in lengths:
            count *= length
        stop = start + count * KINDS[kind].itemsize
        if stop > len(self.block):
            raise Broken("an array ends after the document")
        return np.frombuffer(self.block[start:stop], KINDS[kind]).reshape(lengths).copy()  # Agg wants some of them writable
