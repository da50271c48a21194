"""Draw an SVG as a document with one image. Only data is handled here, but hostile data, so it runs where scripts do."""

from __future__ import annotations

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
from PIL import Image

from vlreward.sandbox.inside.document import Writer
from vlreward.sandbox.inside.process import PRIVATE
from vlreward.sandbox.inside.record import TooLarge

SIDE = 768
"""Pixels of the longer side."""
MAX_ELEMENTS = 20_000
MAX_RATIO = 20
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSansMono")
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.IGNORECASE)
OUTSIDE = re.compile(r"url\(\s*['\"]?\s*(?!['\"#\s])|@import", re.IGNORECASE)


class Refused(Exception):
    """The SVG reaches outside of itself, or is none."""


def draw(text: str) -> bytes:
    """The document of an SVG on white paper. Raises Refused, TooLarge, or what the renderer raises."""
    import resvg_py

    width, height = size(check(text))
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    png = resvg_py.svg_to_bytes(
        svg_string=text,
        width=width,
        height=height,
        background="#ffffff",
        skip_system_fonts=True,
        font_files=[str(folder / f"{name}.ttf") for name in FONTS],
        font_family="DejaVu Sans",
        sans_serif_family="DejaVu Sans",
        serif_family="DejaVu Serif",
        monospace_family="DejaVu Sans Mono",
        cursive_family="DejaVu Sans",
        fantasy_family="DejaVu Sans",
        resources_dir=PRIVATE,
    )
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    writer = Writer()
    operation = ["image", [None, "", None, 1], PLAIN, 0.0, 0.0, writer.array(np.asarray(image)[::-1], "u")]
    return writer.finish({"outcome": "drawn", "size": list(image.size), "axes": [], "operations": [operation]})


def check(text: str) -> ElementTree.Element:
    """The root of an SVG that holds everything it shows, as shapes. Raises Refused or TooLarge."""
    if "<!ENTITY" in text.upper():
        raise Refused("an entity of its own")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise Refused(f"not XML: {error}") from None
    if root.tag.rpartition("}")[2] != "svg":
        raise Refused("the outer element is not svg")
    for count, element in enumerate(root.iter()):
        if count > MAX_ELEMENTS:
            raise TooLarge(f"more than {MAX_ELEMENTS} elements")
        name = str(element.tag).rpartition("}")[2]
        if name in ("image", "feImage", "foreignObject", "script"):
            raise Refused(f"an element {name}")
        for key, value in element.attrib.items():
            if key.rpartition("}")[2] == "href" and not value.strip().startswith("#"):
                raise Refused("a reference that leaves the document")
            if OUTSIDE.search(value):
                raise Refused("a reference that leaves the document")
        if name == "style" and OUTSIDE.search("".join(element.itertext())):
            raise Refused("a reference that leaves the document")
    return root


def size(root: ElementTree.Element) -> tuple[int, int]:
    """(width, height) in pixels, the longer one SIDE. Raises TooLarge where one is many times the other."""
    sides = [_length(root.get(name, "")) for name in ("width", "height")]
    box = [float(number) for number in NUMBER.findall(root.get("viewBox", ""))]
    if None in sides and len(box) == 4 and box[2] > 0 and box[3] > 0:
        sides = box[2:]
    width, height = (side or 100.0 for side in sides)
    if max(width, height) > MAX_RATIO * min(width, height):
        raise TooLarge(f"{width:g} x {height:g}: one side is more than {MAX_RATIO} times the other")
    scale = SIDE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _length(text: str) -> float | None:
    match = NUMBER.match(text.strip())
    value = float(match[0]) if match and not text.strip().endswith("%") else 0.0
    return value if 0 < value < float("inf") else None


PLAIN = {
    "alpha": 1.0, "forced": False, "smooth": 1, "cap": "butt", "join": "round", "width": 1.0, "color": [0.0, 0.0, 0.0, 1.0],
    "dashes": [0.0, None], "clip": None, "shape": None, "snap": None, "sketch": None,
    "hatch": None, "hatch_color": None, "hatch_width": 1.0,
}  # fmt: skip
"""A graphics context that changes nothing."""
