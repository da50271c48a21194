"""Small runs on the shipped tiny policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlreward.config import parse
from vlreward.vlm.config import TrainVLM

ROOT = Path(__file__).parent.parent.parent
SMALL = {
    "run": {"name": "small", "seed": 3},
    "data": {"kind": "tiny", "task": "grounding", "count": 8},
    "policy": {"model": str(ROOT / "assets" / "tiny-vlm"), "max_new_tokens": 12},
    "group": {"size": 3, "prompts": 2},
    "rewards": [{"kind": "box_iou"}, {"kind": "answer_format", "weight": 0.2}],
    "optim": {"lr": 1e-3, "steps": 2},
    "device": "cpu",
}


@pytest.fixture
def small(tmp_path):
    """Builds the small configuration with some blocks replaced; every run goes to its own folder under tmp_path."""

    def build(name: str = "small", **blocks) -> TrainVLM:
        return parse(TrainVLM, SMALL | blocks | {"run": SMALL["run"] | {"name": name, "folder": str(tmp_path)}})

    return build
