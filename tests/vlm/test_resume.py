"""A run that was killed goes on to the numbers of one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest
from killed import killed, same_policy

from vlreward.errors import ConfigError
from vlreward.vlm.train import train

POLICY = {"model": str(Path("assets/tiny-vlm").resolve()), "max_new_tokens": 12}

TALLY = {"kind": "tiny", "task": "tally", "count": 2}
SHORTER = {"kind": "length_history", "correct": {"kind": "text_pattern", "pattern": ".*"}}
STAGES = [
    {"data": {"kind": "tiny", "task": "color", "count": 4}, "rewards": [{"kind": "exact_match"}, {"kind": "text_length"}]},
    {"share": 2, "data": TALLY, "rewards": [SHORTER, {"kind": "answer_format"}], "order": {"by": "answer"}},
]


@pytest.mark.parametrize(("lora", "stages"), [(0, []), pytest.param(4, STAGES, marks=pytest.mark.slow)])
def test_run_killed_between_two_updates_of_one_batch_resumes_bit_equal(small, tmp_path, lora, stages):
    """Five steps, two a batch, a checkpoint after the third; the kill falls after the fourth was logged and before it was saved."""
    held_out = {"kind": "tiny", "task": "grounding", "count": 4, "holdout": True}
    blocks = {"optim": {"lr": 1e-3, "steps": 5, "save_every": 3, "schedule": "linear"}, "trl": {"num_iterations": 2}}
    config = small("whole", eval={"data": held_out}, policy=POLICY | {"lora": lora}, stages=stages, **blocks)
    whole = train(config)

    again = killed(config, tmp_path, 4)
    logged = (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()
    assert len(logged) == 4
    (tmp_path / "killed" / "checkpoints" / "step-000004.writing").mkdir()

    resumed = train(again, resume=True)
    assert same_policy(whole, resumed)
    rows = [[{k: v for k, v in row.items() if not k.startswith("time/")} for row in f.read("metrics.jsonl")] for f in (whole, resumed)]
    assert [row["step"] for row in rows[1]] == [1, 2, 3, 4, 5]
    assert rows[0] == rows[1]
    assert whole.read("evaluation_after.jsonl") == resumed.read("evaluation_after.jsonl")
    assert len(whole.read("rollouts.jsonl")) == len(resumed.read("rollouts.jsonl"))

    train(again, resume=True)
    assert same_policy(whole, resumed)
    assert len(resumed.read("metrics.jsonl")) == 5, "resuming a finished run must change nothing"


def test_resuming_with_another_configuration_is_refused(small):
    train(small(optim={"lr": 1e-3, "steps": 1}))
    with pytest.raises(ConfigError, match="another configuration"):
        train(small(optim={"lr": 2e-3, "steps": 1}), resume=True)
    with pytest.raises(ConfigError, match="add --resume"):
        train(small(optim={"lr": 1e-3, "steps": 1}))
