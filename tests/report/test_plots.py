"""Where lines, bars and ticks lie."""

import json
import re
from itertools import pairwise

import pytest

from vlreward.report.plots import MOST_POINTS, Line, _label, histogram, line_plot, show, show_interval, smoothed, ticks


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.500"),
        (-0.25, "−0.250"),
        (0, "0"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (0.00012, "1.2e-04"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_figures_are_short_and_keep_their_sign(value, text):
    assert show(value) == text


def test_a_bound_that_is_tiny_beside_the_rest_has_no_exponent():
    assert show_interval(0.027, 0.00011, 0.053) == "0.027 [0.000,\N{NO-BREAK SPACE}0.053]"
    assert show_interval(0.00012, 0.0001, 0.00014) == "1.2e-04 [1.0e-04,\N{NO-BREAK SPACE}1.4e-04]"
    assert show_interval(0.5, None, 0.6) == "0.500"


def test_a_gain_carries_its_sign():
    assert (show(0.1, sign=True), show(-0.1, sign=True), show(0, sign=True)) == ("+0.100", "−0.100", "0")


@pytest.mark.parametrize(("low", "high", "count"), [(0, 1, 5), (0.31, 0.47, 5), (-3, 12, 6), (2e-7, 3e-6, 4), (1e4, 9e4, 5), (3, 3, 5)])
def test_ticks_are_round_and_span_the_values(low, high, count):
    found = ticks(low, high, count)
    assert found[0] <= low
    assert found[-1] >= high
    assert 2 <= len(found) <= count + 3
    steps = {round((b - a) / (found[1] - found[0]), 6) for a, b in pairwise(found)}
    assert steps == {1.0}


def test_steps_have_whole_ticks():
    assert ticks(0, 2, 6, whole=True) == [0, 1, 2]


def test_a_gap_in_a_curve_stays_a_gap():
    plot = line_plot([Line(name="a", x=[0, 1, 2, 3], y=[1, None, 2, 3])], "a")
    assert plot is not None
    assert plot.lines[0].path.count("M") == 2
    assert json.loads(plot.hover)["rows"][1] == []


def test_higher_values_lie_higher_and_later_steps_to_the_right():
    plot = line_plot([Line(name="a", x=[0, 10], y=[0.0, 1.0])], "a")
    assert plot is not None
    (x1, y1), (x2, y2) = [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", plot.lines[0].path)]
    assert x1 < x2
    assert y1 > y2


def test_a_band_is_drawn_and_read_where_both_bounds_are_known():
    line = Line(name="a", x=[0, 1, 2], y=[1, 2, 3], low=[0, 1, None], high=[2, 3, 4])
    plot = line_plot([line], "a")
    assert plot is not None
    assert plot.lines[0].band.count("M") == 1
    assert json.loads(plot.hover)["rows"] == [["a: 1.000 [0, 2.000]"], ["a: 2.000 [1.000, 3.000]"], ["a: 3.000"]]


def test_a_gap_in_a_band_stays_a_gap():
    plot = line_plot([Line(name="a", x=[0, 1, 2, 3, 4], y=[1, 1, 1, 1, 1], low=[0, 0, None, 0, 0], high=[2, 2, 2, 2, 2])], "a")
    assert plot is not None
    assert plot.lines[0].band.count("Z") == 2


def test_a_long_curve_is_drawn_as_means():
    count = 10 * MOST_POINTS
    plot = line_plot([Line(name="a", x=list(range(count)), y=[float(i % 10) for i in range(count)])], "a")
    assert plot is not None
    rows = json.loads(plot.hover)["rows"]
    assert len(rows) == MOST_POINTS
    assert {text for [text] in rows} == {"a: 4.500"}


def test_there_is_no_chart_of_nothing():
    assert line_plot([], "a") is None
    assert line_plot([Line(name="a", x=[0, 1], y=[None, None])], "a") is None
    assert histogram("a", [], {"before": []}) is None
    assert histogram("a", [0, 1], {"before": [0]}) is None


def test_a_histogram_s_bars_are_shares_of_their_phase():
    plot = histogram("a", [0, 0.5, 1], {"before": [3, 1], "after": [0, 8]})
    assert plot is not None
    heights = {(tone, round(x)): height for tone, x, _, _, height in plot.bars}
    before = [height for (tone, _), height in heights.items() if tone == "before"]
    [after] = [height for (tone, _), height in heights.items() if tone == "after"]
    assert before == pytest.approx([0.75 * after, 0.25 * after], abs=0.02)
    assert json.loads(plot.hover)["rows"][0] == ["before: 3 (75 %)", "after: 0 (0 %)"]


def test_a_running_mean_keeps_a_straight_line_and_skips_gaps():
    assert smoothed([float(i) for i in range(60)]) == [float(i) for i in range(60)]
    assert smoothed([1.0, None, 3.0]) == [1.0, 2.0, 3.0]


def test_tiny_and_huge_ticks_fit_beside_the_axis():
    assert [_label(tick, [0, 2.5e-5]) for tick in (0, 2.5e-5)] == ["0", "2.5e-5"]
    assert _label(-4e5, [-4e5, 0]) == "-4.0e5"
