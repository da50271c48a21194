"""Which tokens are learned from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tables import NAN, groups, table

from vlreward.advantages.difficulty import DifficultyWeighted
from vlreward.advantages.group import GroupAdvantage
from vlreward.advantages.key_tokens import KeyTokens
from vlreward.errors import ConfigError
from vlreward.types import RewardTable


def told(a: list[float], **signals: list[list[float]]) -> RewardTable:
    return replace(table(a=a), by_token={name: torch.tensor(rows, dtype=torch.float64) for name, rows in signals.items()})


def test_the_highest_share_by_each_signal_is_learned_from_and_they_are_joined():
    t = told(
        [1.0, 0.0],
        visual=[[5.0, 0.0, 0.1, 0.2, -9.0], [0.3, 0.0, 0.1, 0.2, 4.0]],
        temporal=[[0.0, 7.0, 0.1, 0.2, -8.0], [0.3, 0.0, 0.1, 0.2, 0.3]],
        entropy=[[0.0, 0.1, 0.2, 3.0, 0.1], [0.3, 2.0, 0.1, 0.2, 0.3]],
    )
    only = KeyTokens(share=0.2, by=("visual",)).learned(t, groups(0, 0))
    assert only.tolist() == [[True, False, False, False, False], [False, False, False, False, True]], "a rise of its likelihood is no drop"
    both = KeyTokens(share=0.2).learned(t, groups(0, 0))
    assert both[0].tolist() == [True, True, False, True, False]
    assert both[1].tolist() == [True, True, False, False, True]
    assert KeyTokens(share=1.0, by=("entropy",)).learned(t, groups(0, 0)).all()


def test_each_group_has_a_threshold_of_its_own():
    t = told([1.0, 0.0], entropy=[[9.0, 8.0, 7.0, 6.0, 5.0], [0.1, 0.2, 0.3, 0.4, 0.5]])
    kept = KeyTokens(by=("entropy",)).learned(t, groups(0, 1))
    assert kept.sum(1).tolist() == [1, 1]
    assert KeyTokens(by=("entropy",)).learned(t, groups(0, 0)).sum(1).tolist() == [2, 0]


def test_what_does_not_apply_and_what_lies_beyond_the_text_is_never_learned_from():
    t = told([1.0, 0.0], visual=[[NAN] * 4, [1.0, NAN, NAN, NAN]], entropy=[[0.5, 0.5, NAN, NAN], [0.1, NAN, NAN, NAN]])
    kept = KeyTokens(share=0.5, by=("visual", "entropy")).learned(t, groups(0, 1))
    assert kept.tolist() == [[True, True, False, False], [True, False, False, False]]
    assert not KeyTokens(by=("visual",)).learned(t, groups(0, 1))[0].any(), "a prompt without a picture has nothing that is seen"


def test_the_advantage_is_that_of_the_one_inside_and_others_around_it_leave_out_the_same_tokens():
    t = told([1.0, 0.0, 1.0, 1.0], visual=[[1.0, 2.0]] * 4, temporal=[[1.0, 2.0]] * 4, entropy=[[1.0, 2.0]] * 4)
    ids = groups(0, 0, 1, 1)
    assert torch.equal(KeyTokens()(t, ids), GroupAdvantage()(t, ids))
    around = DifficultyWeighted(of=KeyTokens())
    assert set(around.reads) == {"visual", "temporal", "entropy"}
    assert torch.equal(around.learned(t, ids), KeyTokens().learned(t, ids))
    assert DifficultyWeighted().learned(t, ids) is None
    assert DifficultyWeighted().reads == ()


def test_no_signal_at_all_is_refused():
    with pytest.raises(ConfigError, match="expected some of visual"):
        KeyTokens(by=())
