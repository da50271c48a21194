import itertools
import math

import pytest
from scipy import stats

from vlreward.statistics import gains, interval, paired_gain, pass_at, share


def test_the_interval_is_students():
    values = [0.1, 0.4, 0.35, 0.8, 0.2]
    low, high = stats.t.interval(0.95, 4, loc=sum(values) / 5, scale=stats.sem(values))
    got = interval([*values, float("nan")])
    assert (got.mean, got.low, got.high, got.count) == pytest.approx((0.37, low, high, 5))


def test_nothing_and_one_value_have_no_interval():
    assert interval([]).count == 0
    assert math.isnan(interval([]).mean)
    assert interval([2.0]).mean == 2.0
    assert math.isnan(interval([2.0]).low)


def test_a_share_has_the_wilson_interval():
    wanted = stats.binomtest(18, 20).proportion_ci(method="wilson")
    got = share([1.0] * 18 + [0.0] * 2)
    assert (got.mean, got.low, got.high) == pytest.approx((0.9, wanted.low, wanted.high), abs=1e-6)
    assert share([1.0] * 10).low < 0.75
    assert share([1.0] * 10).high == pytest.approx(1.0)
    assert share([]).count == 0


def test_a_gain_is_paired():
    gain = paired_gain([0.0, 0.5, 1.0], [0.1, 0.6, 1.1])
    assert gain.mean == pytest.approx(0.1)
    assert gain.low == pytest.approx(0.1)
    with pytest.raises(AssertionError):
        paired_gain([1.0], [1.0, 2.0])


def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer():
    for count, right, k in itertools.product(range(1, 7), range(7), range(1, 7)):
        if right <= count and k <= count:
            subsets = list(itertools.combinations([i < right for i in range(count)], k))
            assert pass_at(count, right, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_several_answers_to_a_sample_count_as_their_mean():
    before = [{"id": name, "total": score, "scores": {"x": score}} for name, score in [("a", 0.0), ("a", 1.0), ("b", 0.25), ("b", None)]]
    found = gains(before, [row | {"total": 1.0, "scores": {"x": 1.0}} for row in before])["x"]
    assert found["count"] == 2
    assert found["before"] == pytest.approx((0.5 + 0.25) / 2)
    assert found["gain"] == pytest.approx((0.5 + 0.75) / 2)


def test_the_interval_of_a_share_holds_the_share_where_all_or_none_are_won():
    for count in range(1, 40):
        for wins in ([0.0] * count, [1.0] * count):
            found = share(wins)
            assert found.low <= found.mean <= found.high
