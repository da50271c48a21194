"""Pictures and clips, held as they came and converted once, on demand."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Union

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps

from vlreward.errors import DataError

MAX_PIXELS = 64_000_000
"""A larger picture is refused before it is decoded (a 10 kB PNG can claim to hold 10 GB)."""

MAX_BYTES = 512_000_000
"""Of a part of a larger file."""

SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations whose rows are the upright picture's columns."""


CLIPS = (".mp4", ".webm", ".avi", ".mov", ".mkv")


@dataclass(frozen=True)
class Part:
    """A picture or clip that lies inside of a larger file: `size` bytes from `offset` on, read when they are needed."""

    path: Path
    offset: int
    size: int
    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def suffix(self) -> str:
        """'.jpg'"""
        return Path(self.name).suffix.lower()

    def read(self) -> bytes:
        """Raises DataError."""
        if self.size > MAX_BYTES:
            raise DataError(f"{self.name}: {self.size:,} bytes, more than the {MAX_BYTES:,} allowed")
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                found = file.read(self.size)
        except OSError as error:
            raise DataError(f"{self.name}: cannot be read ({error.strerror})") from error
        if len(found) < self.size:
            raise DataError(f"{self.name}: {self.path} ends {self.size - len(found):,} bytes too early")
        return found


FILES = (str, Path, Part)
"""What is read from a disk when it is needed."""


class Picture:
    """One RGB picture from a path, a part of a file, bytes, a PIL image, an array [H,W,3] uint8, or a tensor [C,H,W] float in [0, 1].

    Decoding happens at first use and raises DataError where the file is missing, broken or too large. A tensor that carries a
    gradient keeps it.
    """

    def __init__(self, source: str | Path | Part | bytes | Image.Image | np.ndarray | torch.Tensor):
        if isinstance(source, torch.Tensor):
            assert source.ndim == 3 and source.shape[0] == 3, f"a picture tensor is [3,H,W], not {tuple(source.shape)}"
            self.tensor = source
            self._source = None
        else:
            self._source = source

    @cached_property
    def pil(self) -> Image.Image:
        """The picture as PIL RGB, turned upright, transparency laid on white."""
        if self._source is None:
            array = (self.tensor.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
            return Image.fromarray(array.permute(1, 2, 0).cpu().numpy())
        if isinstance(self._source, np.ndarray):
            return Image.fromarray(self._source).convert("RGB")
        with self._opened() as image:
            return _upright(image)

    @contextmanager
    def _opened(self) -> Iterator[Image.Image]:
        """The picture as it is stored, whose header alone was read so far. Raises DataError, also for what goes wrong inside."""
        if isinstance(self._source, Image.Image):
            yield self._source
            return
        assert isinstance(self._source, str | Path | Part | bytes), "an array is no file"
        name = f"{len(self._source)} bytes" if isinstance(self._source, bytes) else str(self._source)
        try:
            data = self._source.read() if isinstance(self._source, Part) else self._source
            stream = io.BytesIO(data) if isinstance(data, bytes) else data
            with Image.open(stream) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(f"{name}: {image.width} x {image.height} pixels, more than the {MAX_PIXELS:,} allowed")
                yield image
        except FileNotFoundError as error:
            raise DataError(f"{name}: there is no such picture") from error
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{name}: not a readable picture ({reason(error)})") from error

    @property
    def stored(self) -> bool:
        """Whether it came in whole levels of 0-255 (a file, PIL, an array), not as a tensor."""
        return self._source is not None

    @property
    def key(self) -> Hashable:
        """Equal for pictures of one file or of the same bytes, else one's own."""
        return self._source if isinstance(self._source, str | Path | Part | bytes) else id(self)

    @cached_property
    def tensor(self) -> torch.Tensor:
        """[3,H,W] float32 in [0, 1]"""
        return torch.from_numpy(np.asarray(self.pil, dtype=np.float32) / 255).permute(2, 0, 1)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, upright; a file's header tells, and its pixels stay unread unless it is a PNG."""
        if self._source is None:
            return self.tensor.shape[2], self.tensor.shape[1]
        if isinstance(self._source, np.ndarray):
            return self._source.shape[1], self._source.shape[0]
        with self._opened() as image:
            if image.format == "PNG":  # may say behind its pixels that it lies on its side
                return self.pil.size
            turned = image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS
            return (image.height, image.width) if turned else image.size

    @property
    def origin(self) -> str:
        """The path it is read from, else a hash of its bytes or pixels: the same for what is the same picture."""
        if isinstance(self._source, FILES):
            return str(self._source)
        data = self._source if isinstance(self._source, bytes) else self.tensor.detach().cpu().numpy().tobytes()
        return f"{hashlib.sha1(data).hexdigest()} {'' if isinstance(self._source, bytes) else self.size}"

    @property
    def missing(self) -> bool:
        """Whether it is to be read from a file that is not there."""
        return isinstance(self._source, str | Path) and not os.path.isfile(self._source)

    def png(self) -> bytes:
        """The picture as PNG, losslessly."""
        stream = io.BytesIO()
        self.pil.save(stream, "PNG")
        return stream.getvalue()


class Clip:
    """A clip as frames [F,C,H,W] float in [0, 1], from such a tensor, a list of pictures, or a video file (needs the extra 'video').

    `fps` is the frames' rate where they are given; that of a file is its own, lowered as its frames are thinned out.
    """

    def __init__(self, source: torch.Tensor | Sequence[Picture] | str | Path | Part, frames: int = 16, fps: float = 2.0):
        self._source, self._frames, self._fps = source, frames, fps
        if isinstance(source, torch.Tensor):
            assert source.ndim == 4 and source.shape[1] == 3, f"a clip tensor is [F,3,H,W], not {tuple(source.shape)}"

    @cached_property
    def tensor(self) -> torch.Tensor:
        """[F,3,H,W] float32 in [0, 1]; a file is read at `frames` evenly spaced frames."""
        if isinstance(self._source, torch.Tensor):
            return self._source
        if not isinstance(self._source, FILES):
            return torch.stack([picture.tensor for picture in self._source])
        reader = self._reader()
        picks = np.linspace(0, len(reader) - 1, min(self._frames, len(reader))).round().astype(int)
        self._fps = float(reader.get_avg_fps()) * len(picks) / len(reader)
        return self._read(reader, picks)

    def sampled(self, fps: float, frames: int) -> tuple[torch.Tensor, float]:
        """[F,3,H,W] float32 in [0, 1] at about `fps`, evenly spaced, at most `frames`, an even number; and their own rate.

        How many follows qwen-vl-utils' smart_nframes.
        """
        from qwen_vl_utils.vision_process import smart_nframes

        reader = self._reader() if isinstance(self._source, FILES) else None
        total = len(self.tensor if reader is None else reader)
        rate = self._fps if reader is None else float(reader.get_avg_fps())
        count = smart_nframes({"fps": min(fps, rate), "max_frames": min(frames, total)}, total, rate) if total > 1 else 1
        picks = np.linspace(0, total - 1, count).round().astype(int)
        return self.tensor[torch.from_numpy(picks)] if reader is None else self._read(reader, picks), rate * count / total

    @property
    def seconds(self) -> float:
        """How long the clip lasts, also before its frames were thinned out."""
        if not isinstance(self._source, FILES):
            return len(self.tensor) / self._fps
        reader = self._reader()
        return len(reader) / float(reader.get_avg_fps())

    def between(self, start: float, end: float, frames: int) -> Clip:
        """At most `frames` frames of the seconds from `start` to `end`, evenly spaced, at least one; of a file its own frames."""
        reader = self._reader() if isinstance(self._source, FILES) else None
        total = len(self.tensor if reader is None else reader)
        rate = self._fps if reader is None else float(reader.get_avg_fps())
        first = min(int(start * rate), total - 1)
        last = min(max(round(end * rate) - 1, first), total - 1)
        picks = np.linspace(first, last, min(frames, last - first + 1)).round().astype(int)
        chosen = self.tensor[torch.from_numpy(picks)] if reader is None else self._read(reader, picks)
        return Clip(chosen, fps=rate * len(picks) / (last - first + 1))

    def _reader(self) -> Any:
        try:
            import decord
        except ImportError as error:
            raise DataError(f"{self._source}: reading a clip needs the extra 'video': pip install 'vlreward[video]'") from error
        if not isinstance(self._source, Part) and not Path(str(self._source)).is_file():
            raise DataError(f"{self._source}: there is no such clip")
        try:
            return decord.VideoReader(io.BytesIO(self._source.read()) if isinstance(self._source, Part) else str(self._source))
        except (decord.DECORDError, RuntimeError) as error:
            raise DataError(f"{self._source}: not a readable clip ({reason(error)})") from error

    def _read(self, reader: Any, picks: np.ndarray) -> torch.Tensor:
        try:
            frames = reader.get_batch(list(picks)).asnumpy()
        except RuntimeError as error:  # decord's own errors are of this kind
            raise DataError(f"{self._source}: not a readable clip ({reason(error)})") from error
        return torch.from_numpy(frames.astype(np.float32) / 255).permute(0, 3, 1, 2)

    @property
    def origin(self) -> str:
        """The path it is read from, else a hash of its frames."""
        if isinstance(self._source, FILES):
            return str(self._source)
        return f"{hashlib.sha1(self.tensor.detach().cpu().numpy().tobytes()).hexdigest()} {tuple(self.tensor.shape)}"

    @property
    def missing(self) -> bool:
        """Whether it is to be read from a file that is not there."""
        return isinstance(self._source, str | Path) and not os.path.isfile(self._source)

    @property
    def fps(self) -> float:
        """Frames a second of `tensor`."""
        _ = self.tensor  # a file's rate is known once it is read
        return self._fps

    @property
    def pictures(self) -> list[Picture]:
        """The frames, one picture each."""
        return [Picture(frame) for frame in self.tensor]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels"""
        return self.tensor.shape[3], self.tensor.shape[2]


Visual = Union[Picture, Clip]  # noqa: UP007 - also used at run time


def _upright(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I;16", "I", "F"):
        data = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((255 * data / max(float(data.max()), 1.0)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image.convert("RGB")


def reason(error: Exception) -> str:
    """What an error of a library says, in one short line."""
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__
