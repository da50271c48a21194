"""Write a matplotlib figure down as the operations that drawing it issues. This runs in the script's process, so nobody trusts it."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase, RendererBase
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure, FigureBase
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.patheffects import PathEffectRenderer
from matplotlib.projections.polar import PolarAxes
from matplotlib.transforms import Transform
from mpl_toolkits.mplot3d.axes3d import Axes3D

from vlreward.sandbox.inside.calls import CALLS
from vlreward.sandbox.inside.document import DPI, MAX_PIXELS, Writer, fits

ROLES = {
    **{"legend": "legend", "text": "text", "xtick": "tick", "ytick": "tick"},
    **dict.fromkeys(("matplotlib.axis", "axis3d", "pane3d", "grid3d"), "axis"),
}
"""Group that matplotlib opens -> what it is there for"""


class TooLarge(Exception):
    """The figure has too many pixels."""


class Recorder(RendererAgg):
    """A renderer that writes each operation down instead of carrying it out. Text is measured as Agg does."""

    def __init__(self, width: int, height: int):
        super().__init__(width, height, DPI)
        self.writer = Writer()
        self.operations: list[list] = []
        self.groups: list[tuple[str, Any, int]] = []
        self.opened = 0

    def _update_methods(self) -> None:
        """Agg would put its compiled methods over ours here."""

    def open_group(self, s: str, gid: Any = None) -> None:
        self.opened += 1
        self.groups.append((s, gid, self.opened))

    def close_group(self, s: str) -> None:
        self.groups.pop()

    def start_filter(self) -> None:
        """A filtered artist is drawn without its filter."""

    def stop_filter(self, post_processing: Any) -> None:
        pass

    def draw_path(self, gc: Any, path: Path, transform: Transform, rgbFace: Any = None) -> None:
        self.add("path", gc, [self.path(path), self.affine(transform), face(rgbFace)])

    def draw_markers(self, gc: Any, marker_path: Path, marker_trans: Transform, path: Path, trans: Transform, rgbFace: Any = None) -> None:
        marker = [self.path(marker_path), self.affine(marker_trans)]
        self.add("markers", gc, [*marker, self.path(path), self.affine(trans), face(rgbFace)])

    def draw_path_collection(
        self,
        gc: Any,
        master_transform: Transform,
        paths: Sequence[Path],
        all_transforms: Any,
        offsets: Any,
        offset_trans: Transform,
        facecolors: Any,
        edgecolors: Any,
        linewidths: Any,
        linestyles: Any,
        antialiaseds: Any,
        urls: Any,
        offset_position: Any,
        *,
        hatchcolors: Any = None,
    ) -> None:
        array = self.writer.array
        shapes = [self.path(path) for path in paths]
        places = [array(np.reshape(all_transforms, (-1, 3, 3))), array(np.reshape(offsets, (-1, 2))), self.affine(offset_trans)]
        colors = [array(np.reshape(values, (-1, 4))) for values in (facecolors, edgecolors)]
        dashes = [[float(offset), None if pattern is None else [float(p) for p in pattern]] for offset, pattern in linestyles]
        strokes = [array(np.ravel(linewidths)), dashes, array(np.ravel(antialiaseds))]
        hatches = array(np.reshape([] if hatchcolors is None else hatchcolors, (-1, 4)))
        self.add("collection", gc, [self.affine(master_transform), shapes, *places, *colors, *strokes, hatches])

    def draw_quad_mesh(
        self,
        gc: Any,
        master_transform: Transform,
        meshWidth: int,
        meshHeight: int,
        coordinates: np.ndarray,
        offsets: Any,
        offsetTrans: Transform,
        facecolors: Any,
        antialiased: Any,
        edgecolors: Any,
    ) -> None:
        array = self.writer.array
        colors = [array(np.reshape(facecolors, (-1, 4))), bool(antialiased), array(np.reshape(edgecolors, (-1, 4)))]
        places = [array(coordinates), array(np.reshape(offsets, (-1, 2))), self.affine(offsetTrans)]
        self.add("mesh", gc, [self.affine(master_transform), *places, *colors])

    def draw_gouraud_triangles(self, gc: Any, triangles_array: Any, colors_array: Any, transform: Transform) -> None:
        triangles = [self.writer.array(np.reshape(triangles_array, (-1, 6))), self.writer.array(np.reshape(colors_array, (-1, 12)))]
        self.add("triangles", gc, [*triangles, self.affine(transform)])

    def draw_image(self, gc: Any, x: float, y: float, im: Any, transform: Any = None) -> None:
        self.add("image", gc, [float(x), float(y), self.writer.array(im, "u")], tag=gc.get_url())

    def draw_text(
        self, gc: Any, x: float, y: float, s: str, prop: FontProperties, angle: float, ismath: Any = False, mtext: Any = None
    ) -> None:
        font = [prop.get_family(), prop.get_style(), prop.get_variant(), prop.get_weight(), prop.get_stretch()]
        font += [float(prop.get_size_in_points()), prop.get_math_fontfamily()]
        self.add("text", gc, [float(x), float(y), str(s), font, float(angle), bool(ismath)])

    def draw_tex(self, gc: Any, x: float, y: float, s: str, prop: FontProperties, angle: float, *, mtext: Any = None) -> None:
        self.draw_text(gc, x, y, s, prop, angle)

    def add(self, kind: str, gc: Any, values: list, tag: Any = None) -> None:
        """Write an operation down with where it belongs: the panel's number, the role, the plotting call, and the artist's number."""
        axes, role, artist = None, "", 0
        for name, gid, number in self.groups:
            if name == "axes" and isinstance(gid, int):
                axes, role = gid, ""
            role = role if role == "tick" else ROLES.get(name, role)
            if gid in ("spine", "paper"):
                role = gid
            tag = gid if isinstance(gid, str) and ":" in gid else tag
            artist = number
        if kind == "image":  # matplotlib opens no group for one
            self.opened += 1
            artist = self.opened
        where = [axes, role, tag if isinstance(tag, str) else None, artist]
        self.operations.append([kind, where, self.context(gc), *values])

    def context(self, gc: Any) -> dict:
        """What `Replay` needs to make the same graphics context."""
        clip = gc.get_clip_rectangle()
        shape, transform = gc.get_clip_path()
        offset, pattern = gc.get_dashes()
        return {
            "alpha": float(gc.get_alpha()),
            "forced": bool(gc.get_forced_alpha()),
            "smooth": int(gc.get_antialiased()),
            "cap": str(gc.get_capstyle()),
            "join": str(gc.get_joinstyle()),
            "width": float(gc.get_linewidth()),
            "color": [float(value) for value in gc.get_rgb()],
            "dashes": [float(offset), None if pattern is None else [float(value) for value in pattern]],
            "clip": None if clip is None else [float(value) for value in clip.bounds],
            "shape": None if shape is None else [self.path(shape), self.affine(transform)],
            "hatch": gc.get_hatch(),
            "hatch_color": face(gc.get_hatch_color()),
            "hatch_width": float(gc.get_hatch_linewidth()),
            "snap": None if gc.get_snap() is None else bool(gc.get_snap()),
            "sketch": None if gc.get_sketch_params() is None else [float(value) for value in gc.get_sketch_params()],
        }

    def path(self, path: Path) -> list:
        codes = None if path.codes is None else self.writer.array(path.codes, "u")
        return [self.writer.array(path.vertices), codes, bool(path.should_simplify)]

    def affine(self, transform: Transform) -> list:
        return self.writer.array(transform.get_affine().get_matrix())


def face(color: Any) -> list | None:
    """RGBA as a list; None for no fill."""
    return None if color is None else [float(value) for value in to_rgba(color)]


def describe(figure: Figure) -> bytes:
    """The figure as a document. Raises TooLarge."""
    figure.set_dpi(DPI)
    width, height = (int(inches * DPI) for inches in figure.get_size_inches())
    if not fits(width, height):
        raise TooLarge(f"the figure has {width} x {height} pixels, more than {MAX_PIXELS:,}")
    figure.patch.set_gid("paper")
    panels: list[Any] = list(figure.axes)
    for number, axes in enumerate(panels):
        panels += axes.child_axes
        axes.set_gid(number)
        axes.patch.set_gid("paper")
        for spine in axes.spines.values():
            spine.set_gid("spine")
    recorder = Recorder(width, height)
    figure.draw(recorder)
    boxes = [[float(value) for value in axes.get_window_extent().extents] for axes in panels]
    return recorder.writer.finish({"outcome": "drawn", "size": [width, height], "axes": boxes, "operations": recorder.operations})


class Stage:
    """What the script has shown so far: the last figure saved or shown."""

    document: bytes | None = None

    def keep(self, figure: Figure) -> None:
        """Describe the figure as it stands now, in place of what was kept before."""
        self.document = describe(figure)


stage = Stage()


def prepare() -> None:
    """Make saving and showing hand the figure to `stage`, plotting calls leave number and name on what they draw, and waits end at once."""

    def save(self: Figure, *args: Any, **kwargs: Any) -> None:
        stage.keep(self)

    def show(*args: Any, **kwargs: Any) -> None:
        if pyplot.get_fignums():
            stage.keep(pyplot.gcf())

    Figure.savefig = save  # type: ignore[method-assign]
    Figure.show = show  # type: ignore[method-assign]
    pyplot.show = show  # type: ignore[assignment]
    time.sleep = lambda seconds: None  # type: ignore[assignment]
    PathEffectRenderer.draw_text = draw_text_with_effects  # type: ignore[method-assign]
    FigureCanvasBase.draw_idle = lambda self, *args, **kwargs: None  # type: ignore[method-assign]
    for cls in (Axes, PolarAxes, Axes3D):
        for name in CALLS & set(vars(cls)):
            setattr(cls, name, numbered(getattr(cls, name), name))
    FigureBase.colorbar = numbered(FigureBase.colorbar, "colorbar")  # type: ignore[method-assign]


def draw_text_with_effects(
    self: Any, gc: Any, x: Any, y: Any, s: str, prop: Any, angle: Any, ismath: Any = False, mtext: Any = None
) -> None:
    """The effects as matplotlib draws them, which is as shapes, and the text itself on top, which would be lost otherwise."""
    RendererBase.draw_text(self, gc, x, y, s, prop, angle, ismath, mtext)
    self._renderer.draw_text(gc, x, y, s, prop, angle, ismath)


_depth = 0
_calls = 0


def numbered(method: Any, name: str) -> Any:
    """The method, tagging what a call adds to any axes with the call's number and name; calls inside of a call are part of it."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        global _depth, _calls
        if _depth:
            return method(self, *args, **kwargs)
        before = {id(child) for child in children(self)}
        _depth += 1
        try:
            return method(self, *args, **kwargs)
        finally:
            _depth -= 1
            _calls += 1
            for child in children(self):
                if id(child) not in before:
                    child.set_gid(f"{_calls}:{name}")
                    child.set_url(f"{_calls}:{name}")

    return call


def children(owner: Any) -> list:
    """The artists that plotting added to an axes, or to all axes of a figure."""
    panels: Any = owner.axes if isinstance(owner, FigureBase) else [owner]
    return [child for axes in panels for child in axes._children]
