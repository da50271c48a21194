"""Carry a document's operations out on an empty canvas and watch which pixels each of them owns in the end.

This runs in a process in which no script ever ran. Everything in a document is data: shapes are checked where they are read, and what Agg
makes of odd values is bounded by the limits of the process.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.backend_bases import GraphicsContextBase
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.transforms import Affine2D, Bbox, TransformedPath

from vlreward.sandbox.inside.canvas import Canvas, remains
from vlreward.sandbox.inside.document import DPI, MAX_OPERATIONS, Broken, Reader, fits

LEGIBLE = 40
"""Of 255: contrast that a text needs at its darkest."""
SMALLEST_TEXT = 4.0
"""Points"""


class Replay:
    """Draws a document; afterwards `canvas`, `texts` and `shapes` say what there is to see."""

    def __init__(self, document: Reader):
        header = document.header
        size = header.get("size")
        if not (isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) for n in size) and fits(*size)):
            raise Broken("no size")
        operations = header.get("operations")
        if not isinstance(operations, list) or len(operations) > MAX_OPERATIONS:
            raise Broken("no list of operations, or too long a one")
        self.document = document
        self.width, self.height = size
        self.boxes = [_numbers(box, 4) for box in header.get("axes", [])][:200]
        self.canvas = Canvas(*size)
        self.texts: list[dict] = []
        self.shapes: list[dict] = []
        self.count = 0
        self.fonts: dict[str, FontProperties] = {}
        for operation in operations:
            self._carry_out(operation)

    def _carry_out(self, operation: list) -> None:
        kind, (axes, role, tag, artist), context, *values = operation
        method = METHODS.get(kind)
        if method is None:
            raise Broken(f"no operation is called {str(kind)[:20]!r}")
        self.count += 1
        where = {
            "number": self.count,
            "axes": axes if isinstance(axes, int) and 0 <= axes < len(self.boxes) else None,
            "role": str(role),
            "tag": str(tag) if tag else None,
            "artist": str(artist),
        }
        method(self, where, self._context(context), values)

    def _context(self, fields: dict) -> Any:
        gc: Any = GraphicsContextBase()
        gc.set_antialiased(bool(fields["smooth"]))
        gc.set_capstyle(fields["cap"])
        gc.set_joinstyle(fields["join"])
        gc.set_linewidth(float(fields["width"]))
        offset, pattern = fields["dashes"]
        gc.set_dashes(float(offset), None if pattern is None else _numbers(pattern))
        if fields["clip"] is not None:
            gc.set_clip_rectangle(Bbox.from_bounds(*_numbers(fields["clip"], 4)))
        if fields["shape"] is not None:
            gc.set_clip_path(TransformedPath(self._path(fields["shape"][0]), self._affine(fields["shape"][1])))
        hatch = fields["hatch"]
        gc.set_hatch(hatch[:16] if isinstance(hatch, str) else None)
        if fields["hatch_color"] is not None:
            gc.set_hatch_color(_color(fields["hatch_color"]))
        gc.set_hatch_linewidth(float(fields["hatch_width"]))
        gc.set_snap(fields["snap"])
        if fields["sketch"] is not None:
            gc.set_sketch_params(*_numbers(fields["sketch"], 3))
        gc.set_foreground(_color(fields["color"]), isRGBA=True)
        gc._alpha, gc._forced_alpha = float(fields["alpha"]), bool(fields["forced"])
        return gc

    def _path(self, fields: list) -> Path:
        vertices, codes, simplify = fields
        path = Path(self.document.array(vertices, (None, 2)), None if codes is None else self.document.array(codes, (None,)))
        path.should_simplify = bool(simplify)
        return path

    def _affine(self, reference: list) -> Affine2D:
        return Affine2D(self.document.array(reference, (3, 3)))

    def _colors(self, reference: list) -> np.ndarray:
        return self.document.array(reference, (None, 4))

    def _add(
        self,
        where: dict,
        gc: Any,
        primitive: str,
        colors: Any,
        draw: Callable[[], None],
        region: tuple[int, int, int, int] | None = None,
        alpha: float = 1.0,
    ) -> None:
        """Draw, and note the primitive with its colours (RGBA) if it left ink."""
        alpha = gc.get_alpha() if gc.get_forced_alpha() else alpha
        if self.canvas.ink(where["number"], float(alpha), region or self._clip(gc), draw):
            self.shapes.append(where | {"primitive": primitive, "colors": colors})

    def _clip(self, gc: Any) -> tuple[int, int, int, int]:
        """Pixels that an operation can reach at most."""
        clip = gc.get_clip_rectangle()
        return (0, 0, self.width, self.height) if clip is None else self._region(clip.get_points(), 1)

    def _draw_path(self, where: dict, gc: Any, values: list) -> None:
        shape, affine, fill = values
        path, transform = self._path(shape), self._affine(affine)
        corners = transform.transform(path.vertices)
        fill = None if fill is None else _color(fill)
        color, primitive = gc.get_rgb(), "line"
        if fill is not None and fill[3] > 0:
            color, primitive = fill, polygon(corners, None if path.codes is None else np.asarray(path.codes))
        reach = 2 + 2 * gc.get_linewidth() * DPI / 72 + (20 if gc.get_sketch_params() else 0)
        region = self._region(corners, reach)
        self._add(where, gc, primitive, [color], lambda: self.canvas.renderer.draw_path(gc, path, transform, fill), region, color[3])

    def _draw_markers(self, where: dict, gc: Any, values: list) -> None:
        shape, shape_affine, path, affine, fill = values
        marker, places = (self._path(shape), self._affine(shape_affine)), (self._path(path), self._affine(affine))
        fill = None if fill is None else _color(fill)
        color = fill if fill is not None and fill[3] > 0 else gc.get_rgb()
        size = np.nan_to_num(np.abs(marker[1].transform(marker[0].vertices))).max(initial=0)
        region = self._region(places[1].transform(places[0].vertices), size + 2 + 2 * gc.get_linewidth() * DPI / 72)
        self._add(where, gc, "points", [color], lambda: self.canvas.renderer.draw_markers(gc, *marker, *places, fill), region, color[3])

    def _draw_collection(self, where: dict, gc: Any, values: list) -> None:
        master, paths, transforms, offsets, offset_affine, faces, edges, widths, dashes, smooth, hatches = values
        shapes = [self._path(path) for path in paths]
        places = self.document.array(offsets, (None, 2))
        faces, edges = self._colors(faces), self._colors(edges)
        filled = len(faces) and faces[:, 3].max() > 0
        primitive = "line" if not filled and not places.any() else "points" if places.any() else "area"
        colors = faces if filled else edges
        strokes = [self.document.array(widths, (None,)), [(float(o), None if p is None else _numbers(p)) for o, p in dashes]]
        arguments = [self._affine(master), shapes, self.document.array(transforms, (None, 3, 3)), places, self._affine(offset_affine)]
        arguments += [faces, edges, *strokes, self.document.array(smooth, (None,)).astype(bool), [None], "screen"]
        hatch: Any = self._colors(hatches)
        alpha = colors[:, 3].max() if len(colors) else 0.0
        self._add(
            where, gc, primitive, colors, lambda: self.canvas.renderer.draw_path_collection(gc, *arguments, hatchcolors=hatch), alpha=alpha
        )

    def _draw_mesh(self, where: dict, gc: Any, values: list) -> None:
        master, coordinates, offsets, offset_affine, faces, smooth, edges = values
        grid = self.document.array(coordinates, (None, None, 2))
        faces = self._colors(faces)
        arguments = [self._affine(master), grid.shape[1] - 1, grid.shape[0] - 1, grid, self.document.array(offsets, (None, 2))]
        arguments += [self._affine(offset_affine), faces, bool(smooth), self._colors(edges)]
        self._add(where, gc, "mesh", faces, lambda: self.canvas.renderer.draw_quad_mesh(gc, *arguments))

    def _draw_triangles(self, where: dict, gc: Any, values: list) -> None:
        points, colors, affine = values
        points, colors = self.document.array(points, (None, 6)).reshape(-1, 3, 2), self.document.array(colors, (None, 12)).reshape(-1, 3, 4)
        transform = self._affine(affine)
        self._add(where, gc, "mesh", colors[:, 0], lambda: self.canvas.renderer.draw_gouraud_triangles(gc, points, colors, transform))

    def _draw_image(self, where: dict, gc: Any, values: list) -> None:
        x, y, reference = values
        image = self.document.array(reference, (None, None, 4))
        spots = image.reshape(-1, 4)[:: max(1, image.size // 4 // 4096)] / 255
        self._add(where, gc, "image", spots, lambda: self.canvas.renderer.draw_image(gc, float(x), float(y), image))

    def _draw_text(self, where: dict, gc: Any, values: list) -> None:
        x, y, text, font, angle, math = values
        size, properties = float(font[5]), self._font(font)
        renderer = self.canvas.renderer
        frame = np.array([[0, 0], [self.width, self.height]], float)
        clip = gc.get_clip_rectangle()
        if clip is not None:
            frame = np.array([np.maximum(frame[0], clip.min), np.minimum(frame[1], clip.max)])
        turn = Affine2D().rotate_deg(angle).translate(x, self.height - y)
        pixels = size * DPI / 72
        corners = turn.transform(_corners(len(text) * pixels, 1.5 * pixels, 0.5 * pixels))  # no glyph is wider than it is high
        if math or not _inside(corners, frame):
            corners = turn.transform(_corners(*renderer.get_text_width_height_descent(text, properties, bool(math))))
        low, high = corners.min(0), corners.max(0)
        inside = np.clip(np.minimum(high, frame[1]) - np.maximum(low, frame[0]), 0, None)
        whole = (inside >= 0.8 * (high - low)).all()
        alpha = gc.get_alpha() if gc.get_forced_alpha() else gc.get_rgb()[3]
        ink = self.canvas.ink(
            where["number"],
            alpha,
            self._region(corners, 4),
            lambda: renderer.draw_text(gc, x, y, text, properties, angle, bool(math)),
        )
        if ink and whole and ink.contrast >= LEGIBLE and size >= SMALLEST_TEXT:
            self.texts.append(where | {"text": text, "ink": ink})

    def legible(self) -> list[dict]:
        """The texts that still stand out from what surrounds them in the finished picture."""
        return [text for text in self.texts if text["ink"].contrast * remains(text["ink"], self.canvas.words) >= LEGIBLE]

    def _font(self, fields: list) -> FontProperties:
        key = json.dumps(fields)
        if key not in self.fonts:
            family, style, variant, weight, stretch, size, math_family = fields
            self.fonts[key] = FontProperties(family, style, variant, weight, stretch, float(size), math_fontfamily=math_family)
        return self.fonts[key]

    def _region(self, corners: np.ndarray, reach: float) -> tuple[int, int, int, int]:
        """Pixels (x0, y0, x1, y1, downwards) that hold `corners` [N,2] (upwards) and `reach` around them."""
        corners = corners[np.isfinite(corners).all(1)]
        if not len(corners):
            return 0, 0, 0, 0
        low, high = corners.min(0) - reach, corners.max(0) + reach
        x0, x1 = (int(v) for v in np.clip([low[0], high[0] + 1], 0, self.width))
        y0, y1 = (int(v) for v in np.clip([self.height - high[1], self.height - low[1] + 1], 0, self.height))
        return x0, y0, x1, y1


METHODS: dict[Any, Any] = {
    "path": Replay._draw_path,
    "markers": Replay._draw_markers,
    "collection": Replay._draw_collection,
    "mesh": Replay._draw_mesh,
    "triangles": Replay._draw_triangles,
    "image": Replay._draw_image,
    "text": Replay._draw_text,
}


def _corners(width: float, height: float, descent: float) -> list[list[float]]:
    return [[0, -descent], [width, -descent], [width, height - descent], [0, height - descent]]


def _inside(corners: np.ndarray, frame: np.ndarray) -> bool:
    return bool((corners >= frame[0]).all() and (corners <= frame[1]).all())


def polygon(corners: np.ndarray, codes: np.ndarray | None) -> str:
    """'rect' for an upright rectangle, 'wedge' for arcs joined by straight lines, else 'area'. `corners` [N,2] in pixels."""
    if codes is not None and np.isin(codes, (Path.CURVE3, Path.CURVE4)).any():
        return "wedge" if (codes == Path.LINETO).any() else "area"
    points = corners[:-1] if codes is not None and len(codes) and codes[-1] == Path.CLOSEPOLY else corners
    if len(points) == 5 and np.allclose(points[0], points[4]):
        points = points[:4]
    if len(points) != 4:
        return "area"
    steps = np.abs(np.roll(points, -1, 0) - points)
    return "rect" if (steps.min(1) < 0.5).all() and (steps[0].argmax() != steps[1].argmax()) else "area"


def _numbers(values: Any, count: int | None = None) -> list[float]:
    if not isinstance(values, list) or (count is not None and len(values) != count) or len(values) > 1000:
        raise Broken("not a list of numbers")
    return [float(value) for value in values]


def _color(values: Any) -> tuple[float, float, float, float]:
    red, green, blue, alpha = (min(max(value, 0.0), 1.0) for value in _numbers(values, 4))
    return red, green, blue, alpha
