"""Runs that mark tokens, killed between two updates of one batch of rollouts."""

from __future__ import annotations

import pytest
from killed import killed, same_policy

from vlreward.vlm.train import train

SPANS = {
    "data": {"kind": "tiny", "task": "spans", "count": 8},
    "policy": {"model": "assets/tiny-vlm-reader", "max_new_tokens": 10},
    "rewards": [{"kind": "temporal_iou"}],
    "advantage": {"kind": "key_tokens", "share": 0.2, "of": {"kind": "group"}},
}
PLATES = {
    "data": {"kind": "tiny", "task": "plates", "count": 8},
    "policy": {"model": "assets/tiny-vlm-reader", "max_new_tokens": 10},
    "rewards": [{"kind": "transcript_match"}, {"kind": "reference_steps", "part": "character", "key": "text", "weight": 0.0}],
    "correction": {"reference": "<answer>{text}</answer>", "steps": "reference_steps", "outcome": "transcript_match"},
}


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [SPANS, PLATES], ids=["key_tokens", "correction"])
def test_it_goes_on_with_the_same_tokens_marked(small, tmp_path, blocks):
    optim = {"lr": 1e-3, "steps": 6, "save_every": 3}
    config = small("whole", **blocks, group={"size": 4, "prompts": 2}, optim=optim, trl={"num_iterations": 2})
    whole = train(config)
    resumed = train(killed(config, tmp_path, 4), resume=True)
    assert same_policy(whole, resumed)
