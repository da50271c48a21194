"""Pictures and clips of a run, embedded in the page once each however often they are shown."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

LARGEST = 512
"""Pixels of the longer side from which a picture is embedded smaller."""
PAGE_BYTES = 12_000_000
"""Encoded pictures on one page; the rest of the rollouts are shown without theirs, which is said."""
CLIP_BYTES = 1_000_000
"""A larger clip is embedded as its first frame."""
SMALL = 64
"""Pixels of the longer side up to which a picture is shown pixel by pixel."""
SHOWN = 192
"""Pixels on the page that the longer side is brought to; small pictures come to the next lower multiple, at most four times theirs."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A picture in the page: `key` is the id of its one copy, width and height are those of the original in pixels."""

    key: str
    uri: str
    width: int
    height: int
    shown: int
    """Width on the page in CSS pixels"""

    @property
    def scale(self) -> float:
        return self.shown / self.width

    @property
    def pixelated(self) -> bool:
        """Small pictures are shown with their pixels, at whole multiples."""
        return max(self.width, self.height) <= SMALL


class Album:
    """Embeds pictures by content until the page is full."""

    def __init__(self) -> None:
        self.pictures: dict[str, Embedded] = {}
        self._by_path: dict[Path, Embedded | str] = {}
        self._bytes = 0

    def add(self, folder: Path, name: Any) -> Embedded | str | None:
        """The embedded picture, a line that says why there is none, or None where the rollout has none.

        `name` is read from a log, so only files inside of the run folder are opened.
        """
        if not isinstance(name, str) or not name:
            return None
        path = (folder / name).resolve()
        if path not in self._by_path:
            inside = path.is_relative_to(folder.resolve())
            self._by_path[path] = self._embed(path) if inside else f"the picture {path.name} lies outside of the run folder"
        return self._by_path[path]

    def _embed(self, path: Path) -> Embedded | str:
        try:
            data = path.read_bytes()
            with Image.open(io.BytesIO(data)) as image:
                size, kind, moves = image.size, Image.MIME.get(image.format or "", ""), getattr(image, "n_frames", 1) > 1
                if max(size) > LARGEST or (moves and len(data) > CLIP_BYTES) or kind not in ("image/png", "image/webp", "image/jpeg"):
                    data, kind = _smaller(image), "image/webp"
        except FileNotFoundError:
            return f"the picture {path.name} is missing"
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return f"the picture {path.name} is not readable"
        key = "p" + hashlib.sha1(data).hexdigest()[:12]
        if key in self.pictures:
            return self.pictures[key]
        if self._bytes + len(data) > PAGE_BYTES:
            return f"the picture {path.name} is not embedded: the page holds {PAGE_BYTES // 1_000_000} MB of pictures already"
        self._bytes += len(data)
        longer = max(size)
        factor = min(SHOWN // longer, 4) if longer <= SMALL else SHOWN / longer
        uri = f"data:{kind};base64,{base64.b64encode(data).decode()}"
        shown = max(1, round(size[0] * factor))
        self.pictures[key] = Embedded(key=key, uri=uri, width=size[0], height=size[1], shown=shown)
        return self.pictures[key]


def _smaller(image: Image.Image) -> bytes:
    copy = image.convert("RGB")
    copy.thumbnail((LARGEST, LARGEST))
    stream = io.BytesIO()
    copy.save(stream, "WEBP", quality=85)
    return stream.getvalue()
