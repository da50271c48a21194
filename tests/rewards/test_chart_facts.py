import itertools

import numpy as np
import pytest

from vlreward.rewards.chart_facts import color_f1, common_colors, difference, grid, layout_f1, multiset_f1, text_f1, type_f1
from vlreward.sandbox.pool import Drawing

SHARMA = """
50.0000 2.6772 -79.7751 50.0000 0.0000 -82.7485 2.0425
50.0000 3.1571 -77.2803 50.0000 0.0000 -82.7485 2.8615
50.0000 2.8361 -74.0200 50.0000 0.0000 -82.7485 3.4412
50.0000 -1.3802 -84.2814 50.0000 0.0000 -82.7485 1.0000
50.0000 -1.1848 -84.8006 50.0000 0.0000 -82.7485 1.0000
50.0000 -0.9009 -85.5211 50.0000 0.0000 -82.7485 1.0000
50.0000 0.0000 0.0000 50.0000 -1.0000 2.0000 2.3669
50.0000 -1.0000 2.0000 50.0000 0.0000 0.0000 2.3669
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0009 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0010 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0011 7.2195
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0012 7.2195
50.0000 -0.0010 2.4900 50.0000 0.0009 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0010 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0011 -2.4900 4.7461
50.0000 2.5000 0.0000 50.0000 0.0000 -2.5000 4.3065
50.0000 2.5000 0.0000 73.0000 25.0000 -18.0000 27.1492
50.0000 2.5000 0.0000 61.0000 -5.0000 29.0000 22.8977
50.0000 2.5000 0.0000 56.0000 -27.0000 -3.0000 31.9030
50.0000 2.5000 0.0000 58.0000 24.0000 15.0000 19.4535
50.0000 2.5000 0.0000 50.0000 3.1736 0.5854 1.0000
50.0000 2.5000 0.0000 50.0000 3.2972 0.0000 1.0000
50.0000 2.5000 0.0000 50.0000 1.8634 0.5757 1.0000
50.0000 2.5000 0.0000 50.0000 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""
"""Pairs of L*a*b* and their CIEDE2000, from Sharma, Wu and Dalal (2005), table 1."""


def drawing(**facts) -> Drawing:
    return Drawing(outcome="drawn", ink=0.5, **facts)


def test_the_colour_difference_agrees_with_the_published_pairs():
    from skimage.color import deltaE_ciede2000

    table = np.array([[float(value) for value in line.split()] for line in SHARMA.strip().splitlines()])
    assert table.shape == (34, 7)
    assert deltaE_ciede2000(table[:, :3], table[:, 3:6]) == pytest.approx(table[:, 6], abs=5e-5)
    assert difference(["#ff0000", "#000000"], ["#0000ff", "#ffffff"])[[0, 1], [0, 1]] == pytest.approx([52.88, 100.0], abs=0.01)


def test_colours_are_matched_as_well_as_trying_all_permutations_would():
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = (["#" + bytes(rng.integers(0, 256, 3, dtype=np.uint8)).hex() for _ in range(rng.integers(1, 6))] for _ in range(2))
        short, long = sorted((first, second), key=len)
        alike = 1 - difference(short, long) / 100
        best = max(sum(alike[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(len(long)), len(short)))
        assert common_colors(first, second) == pytest.approx(best, abs=1e-9)


def test_colours_count_for_their_kind_of_mark_only():
    red = drawing(marks=(("bar", ("#ff0000",)),))
    assert color_f1(red, red) == 1
    assert color_f1(drawing(marks=(("plot", ("#ff0000",)),)), red) == 0
    assert color_f1(drawing(marks=(("bar", ("#0000ff",)),)), red) == pytest.approx(0.4712, abs=1e-4)
    assert color_f1(drawing(marks=(("bar", ("#ff0000", "#00ff00")),)), red) == pytest.approx(2 / 3)
    assert color_f1(drawing(marks=(("bar", ("#ff0000",)),) * 3), red) == 1, "distinct colours count once"


def test_a_multiset_f1_by_hand():
    assert multiset_f1("aab", "abb") == pytest.approx(2 * 2 / 6)
    assert multiset_f1("", "") == 1
    assert multiset_f1("a", "") == 0
    assert type_f1(drawing(marks=(("bar", ()), ("plot", ()))), drawing(marks=(("bar", ()),))) == pytest.approx(2 / 3)


def test_tick_labels_count_where_they_hold_a_letter():
    wanted = drawing(texts=(("Title", False), ("north", True), ("0.5", True), ("10", False)))
    same = drawing(texts=(("10", False), ("Title", False), ("north", True), (r"$\mathdefault{10^{3}}$", True), ("-3", True)))
    assert text_f1(same, wanted) == 1
    assert text_f1(drawing(texts=(("Title", False),)), wanted) == pytest.approx(0.5)


def test_the_grid_is_found_from_where_the_panels_stand():
    left, right, top, bottom = (0.1, 0.48), (0.55, 0.93), (0.1, 0.45), (0.55, 0.9)
    box = lambda x, y: (x[0], y[0], x[1], y[1])  # noqa: E731
    assert grid([box(left, top)]) == [(1, 1, 0, 0, 0, 0)]
    four = [box(left, top), box(right, top), box(left, bottom), box(right, bottom)]
    assert grid(four) == [(2, 2, 0, 0, 0, 0), (2, 2, 0, 0, 1, 1), (2, 2, 1, 1, 0, 0), (2, 2, 1, 1, 1, 1)]
    wide = box((left[0], right[1]), bottom)
    assert grid([four[0], four[1], wide]) == [(2, 2, 0, 0, 0, 0), (2, 2, 0, 0, 1, 1), (2, 2, 1, 1, 0, 1)]
    assert grid([four[0], four[0]]) == [(1, 1, 0, 0, 0, 0)] * 2, "twin axes share their place"
    touching = [(0.1, 0.1, 0.5, 0.9), (0.5, 0.1, 0.9, 0.9)]
    assert grid(touching) == [(1, 2, 0, 0, 0, 0), (1, 2, 0, 0, 1, 1)]
    assert grid([]) == []


def test_layout_compares_places_not_pixels():
    one = drawing(boxes=((0.1, 0.1, 0.9, 0.9),))
    loose = drawing(boxes=((0.2, 0.2, 0.8, 0.7),))
    row = drawing(boxes=((0.1, 0.1, 0.45, 0.9), (0.55, 0.1, 0.9, 0.9)))
    column = drawing(boxes=((0.1, 0.1, 0.9, 0.45), (0.1, 0.55, 0.9, 0.9)))
    assert layout_f1(loose, one) == 1
    assert layout_f1(row, one) == layout_f1(row, column) == 0
