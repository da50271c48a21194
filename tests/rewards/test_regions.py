import json
import subprocess
import sys

import numpy as np
import pytest
from shapely import Polygon

from vlreward.errors import ConfigError
from vlreward.rewards.regions import MAX_CORNERS, MaskIoU, PolygonIoU, read_polygons, read_runs

SQUARE = [[0, 0], [4, 0], [4, 4], [0, 4]]


def packed(mask: np.ndarray) -> dict:
    from pycocotools import mask as theirs

    runs = theirs.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode()}


def listed(mask: np.ndarray) -> dict:
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()}


def score(reward, rollout, text: str, **target) -> float:
    output = reward.score([rollout(f"<answer>{text}</answer>", **target)])
    assert output.errors == [None], output.errors
    return output.scores.item()


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:30, :40]
    return ((columns - x) ** 2 + (rows - y) ** 2 < radius**2).astype(int)


def test_masks_agree_with_numpy_in_both_codings(rollout):
    rng = np.random.default_rng(0)
    for _ in range(50):
        first, second = (disc(*rng.uniform(0, 30, 2), rng.uniform(1, 15)) for _ in range(2))
        wanted = (first & second).sum() / max((first | second).sum(), 1)
        for coding in (packed, listed):
            got = score(MaskIoU(), rollout, json.dumps(coding(first)), masks=[listed(second)])
            assert got == pytest.approx(wanted if (first | second).any() else 1.0, abs=1e-12)


def test_packed_runs_are_unpacked_as_pycocotools_does():
    rng = np.random.default_rng(0)
    for density in (0.0, 0.01, 0.5, 1.0):
        mask = (rng.random((50, 70)) < density).astype(int)
        assert read_runs(packed(mask)) == ((50, 70), listed(mask)["counts"])


def test_several_masks_are_matched_and_surplus_ones_cost(rollout):
    one, two = listed(disc(5, 5, 4)), listed(disc(25, 20, 6))
    text = json.dumps([two, one])
    assert score(MaskIoU(), rollout, text, masks=[one, two]) == 1.0
    assert score(MaskIoU(), rollout, json.dumps([one]), masks=[one, two]) == 0.5
    assert score(MaskIoU(), rollout, text, masks=one) == 0.5


def test_two_masks_without_a_pixel_are_equal(rollout):
    empty, full = {"size": [2, 3], "counts": [6]}, {"size": [2, 3], "counts": [0, 6]}
    assert score(MaskIoU(), rollout, json.dumps(empty), masks=[empty]) == 1.0
    assert score(MaskIoU(), rollout, json.dumps(full), masks=[empty]) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a mask",
        '{"size": [2, 3]}',
        '{"size": [2, 3], "counts": [5]}',
        '{"size": [2, 3], "counts": [-1, 7]}',
        '{"size": [2, 3], "counts": [1.5, 4.5]}',
        '{"size": [3, 2], "counts": [0, 6]}',
        '{"size": [2, 3, 1], "counts": [0, 6]}',
        '{"size": [2, 3], "counts": "oooooooooooo"}',
        '{"size": [2, 3], "counts": "P"}',
        '{"size": [2, 3], "counts": "\\u20ac"}',
        '{"size": [true, 6], "counts": [0, 6]}',
        '{"size": [1e300, 6], "counts": [0, 6]}',
    ],
)
def test_runs_that_do_not_fill_their_size_are_worth_nothing(rollout, text):
    assert score(MaskIoU(), rollout, text, masks=[{"size": [2, 3], "counts": [0, 6]}]) == 0.0


def test_a_mask_target_that_is_wrong_breaks_its_row_only(rollout):
    good = {"size": [2, 3], "counts": [0, 6]}
    rows = [rollout(f"<answer>{json.dumps(good)}</answer>", masks=masks) for masks in ([{"size": [2, 3], "counts": [5]}], [], "x", [good])]
    output = MaskIoU().score(rows)
    assert [bool(error) for error in output.errors] == [True, True, True, False]
    assert output.scores[3] == 1.0


def test_polygons_are_read_in_three_ways():
    for text in (str(SQUARE), "(0,0), (4,0), (4,4), (0,4)", "[0, 0, 4, 0, 4, 4, 0, 4]", '{"polygon": [[0, 0], [4, 0], [4, 4], [0, 4]]}'):
        assert [corners.tolist() for corners in read_polygons(text)] == [SQUARE], text
    two = read_polygons(f"[{SQUARE}, {[[x + 9, y] for x, y in SQUARE]}]")
    assert len(two) == 2
    assert read_polygons("[1, 2, 3, 4]") == []


def test_a_worked_polygon(rollout):
    assert score(PolygonIoU(), rollout, str(SQUARE), polygons=[SQUARE]) == 1.0
    assert score(PolygonIoU(), rollout, "[[0, 0], [4, 0], [0, 4]]", polygons=[SQUARE]) == 0.5
    assert score(PolygonIoU(frame="unit"), rollout, "[[0, 0], [1, 0], [1, 1], [0, 1]]", polygons=[SQUARE], size=[4, 4]) == 1.0


def test_polygons_agree_with_a_count_of_small_squares(rollout):
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[(np.arange(400) + 0.5) / 20] * 2), -1).reshape(-1, 2)

    def inside(corners: np.ndarray) -> np.ndarray:
        x, y = grid.T
        odd = np.zeros(len(grid), dtype=bool)
        for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, 0), strict=True):
            with np.errstate(divide="ignore", invalid="ignore"):
                odd ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
        return odd

    for _ in range(5):
        turns = np.sort(rng.uniform(0, 2 * np.pi, (2, 7)), 1)
        first, second = (np.stack([10 + r * np.cos(t), 10 + r * np.sin(t)], 1) for t, r in zip(turns, rng.uniform(3, 9, (2, 7))))
        a, b = inside(first), inside(second)
        got = score(PolygonIoU(), rollout, str(first.tolist()), polygons=[second.tolist()])
        assert got == pytest.approx((a & b).sum() / (a | b).sum(), abs=0.01)


def test_a_polygon_that_crosses_itself_is_mended(rollout):
    bow = [[0, 0], [4, 4], [4, 0], [0, 4]]
    assert not Polygon(bow).is_valid
    assert score(PolygonIoU(), rollout, str(bow), polygons=[SQUARE]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[[1, 2], [3, 4]]",
        "[[0, 0], [2, 2], [4, 4]]",
        "[0, 0, 4, 0, 4, 4, 0]",
        "[[0, 0], [1e999, 0], [0, 4]]",
        "[[0, 0], [9e9, 0], [0, 9e9]]",
    ],
)
def test_what_is_no_polygon_is_worth_nothing(rollout, text):
    assert score(PolygonIoU(), rollout, text, polygons=[SQUARE]) == 0.0


def test_more_corners_than_anyone_needs_are_refused(rollout):
    rng = np.random.default_rng(0)
    tangle = rng.uniform(0, 4, (MAX_CORNERS + 1, 2)).tolist()
    assert score(PolygonIoU(), rollout, str(tangle), polygons=[SQUARE]) == 0.0
    assert 0 < score(PolygonIoU(), rollout, str(tangle[:-1]), polygons=[SQUARE]) <= 1


def test_many_polygons_cost_and_the_outside_of_the_picture_does_not_count(rollout):
    assert score(PolygonIoU(), rollout, f"[{SQUARE}, {SQUARE}]", polygons=[SQUARE]) == 0.5
    wide = "[[-9, 0], [4, 0], [4, 4], [-9, 4]]"
    assert score(PolygonIoU(), rollout, wide, polygons=[SQUARE], size=[4, 4]) == 1.0
    assert score(PolygonIoU(), rollout, wide, polygons=[SQUARE]) == pytest.approx(4 / 13)


def test_a_polygon_target_that_is_wrong_breaks_its_row_only(rollout):
    rows = [rollout(f"<answer>{SQUARE}</answer>", polygons=polygons) for polygons in ([[[0, 0], [1, 1]]], [], 5, [SQUARE])]
    output = PolygonIoU().score(rows)
    assert [bool(error) for error in output.errors] == [True, True, True, False]
    assert "target.polygons[0]" in output.errors[0]


def test_no_answer_leaves_the_bounds_or_breaks(rollout, hostile):
    masks, polygons = [{"size": [2, 2], "counts": [0, 2, 2]}], [SQUARE]
    for reward in (MaskIoU(), PolygonIoU(), PolygonIoU(frame="thousand"), PolygonIoU(form="steps")):
        output = reward.score([rollout(text, masks=masks, polygons=polygons, size=[40, 40]) for text in hostile])
        assert not any(output.errors)
        assert ((output.scores >= 0) & (output.scores <= 1)).all()


def test_a_missing_package_is_named_with_its_remedy(monkeypatch, rollout):
    monkeypatch.setitem(sys.modules, "shapely", None)
    with pytest.raises(ConfigError, match=r"pip install 'vlreward\[regions\]'"):
        PolygonIoU().prepare()


def test_reading_the_package_imports_neither_library():
    code = "import sys, vlreward.rewards.regions; print([m for m in ('shapely', 'faster_coco_eval') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_polygons_agree_with_the_clipper_library(rollout):
    clipper = pytest.importorskip("pyclipper")
    rng, scale = np.random.default_rng(0), 2**24

    def area(kind: int, *polygons: np.ndarray) -> float:
        paths = clipper.Pyclipper()
        for polygon, side in zip(polygons, (clipper.PT_SUBJECT, clipper.PT_CLIP), strict=True):
            paths.AddPath(np.rint(polygon * scale).astype(int).tolist(), side, True)
        return sum(clipper.Area(path) for path in paths.Execute(kind))

    for _ in range(100):
        turns, reach = np.sort(rng.uniform(0, 2 * np.pi, (2, 6)), 1), rng.uniform(3, 9, (2, 6))
        first, second = 10 + np.stack([reach * np.cos(turns), reach * np.sin(turns)], -1)
        wanted = area(clipper.CT_INTERSECTION, first, second) / area(clipper.CT_UNION, first, second)
        assert score(PolygonIoU(), rollout, str(first.tolist()), polygons=[second.tolist()]) == pytest.approx(wanted, abs=1e-6)
