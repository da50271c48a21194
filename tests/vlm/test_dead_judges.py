"""A judge that never judges ends a training at once, in one line, and the run goes on when it is mended."""

from __future__ import annotations

import pytest
from chat_server import Stub, completion

from vlreward.errors import ConfigError
from vlreward.vlm.train import train

WRONG_NAME = (404, {"error": {"message": "The model `m` does not exist."}})
HELD_OUT = {"data": {"kind": "tiny", "task": "grounding", "count": 2, "holdout": True}}


@pytest.fixture
def server():
    stub = Stub()
    yield stub
    stub.close()


@pytest.mark.parametrize("evaluated", [True, False])
def test_a_wrong_model_name_is_told_before_anything_is_learned_and_mended_with_resume(small, server, evaluated):
    judge = {"kind": "endpoint", "url": server.url, "model": "m", "retries": 0}
    config = small(
        rewards=[{"kind": "judge_score", "judge": judge}], optim={"lr": 1e-3, "steps": 1}, **({"eval": HELD_OUT} if evaluated else {})
    )
    server.replies = [WRONG_NAME]
    problem = r"rewards\.0: the judge of 'judge_score' broke on all of \d rollouts: .*404 - The model `m` does not exist"
    with pytest.raises(ConfigError, match=problem) as told:
        train(config)
    assert "\n" not in str(told.value)
    server.replies = [(200, completion("Final Score: 3"))]
    folder = train(config, resume=True)
    assert [row["broken"] for row in folder.read("metrics.jsonl")] == [0]
    before = folder.read("evaluation_before.jsonl")
    assert [row["errors"] for row in before] == [[]] * (2 if evaluated else 0), "what nobody judged is judged when the run goes on"
