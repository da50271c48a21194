"""The critics that are shipped order comparisons that they never saw."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlreward.critics.evaluate import judge
from vlreward.critics.measures import figures
from vlreward.critics.network import Critic
from vlreward.tiny.preferences import TinyComparisons

ASSETS = Path(__file__).parents[2] / "assets"
REPORTS, DRAWINGS = {"task": "reports"}, {"task": "drawings"}


@pytest.fixture(scope="module")
def critics():
    return {name: Critic.load(ASSETS / name) for name in ("tiny-critic", "tiny-critic-places", "tiny-critic-clips")}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("tiny-critic", REPORTS),
        ("tiny-critic", DRAWINGS),
        ("tiny-critic", {**DRAWINGS, "side": 32}),
        ("tiny-critic-places", REPORTS),
        ("tiny-critic-places", {**REPORTS, "places": True}),
        ("tiny-critic-clips", {"task": "clips", "side": 32}),
    ],
)
def test_it_orders_held_out_attempts(critics, name, settings):
    judged = judge(critics[name], TinyComparisons(count=64, seed=3, holdout=True, **settings).comparisons(), 16)
    assert figures(judged)["pair_accuracy"]["mean"] > 0.87
