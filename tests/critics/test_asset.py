"""The critic that is shipped orders comparisons that it never saw."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlreward.critics.evaluate import judge
from vlreward.critics.measures import figures
from vlreward.critics.network import Critic
from vlreward.tiny.preferences import TinyComparisons

ASSET = Path(__file__).parents[2] / "assets" / "tiny-critic"


@pytest.fixture(scope="module")
def critic():
    return Critic.load(ASSET)


@pytest.mark.parametrize("settings", [{"task": "reports"}, {"task": "drawings"}, {"task": "drawings", "side": 32}])
def test_it_orders_held_out_attempts(critic, settings):
    judged = judge(critic, TinyComparisons(count=64, seed=3, holdout=True, **settings).comparisons(), 16)
    assert figures(judged)["pair_accuracy"]["mean"] > 0.87
