"""Small critics on a shipped tiny trunk, untrained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vlreward.critics.network import Critic
from vlreward.models.folders import trainable_model
from vlreward.run import quiet
from vlreward.tiny.preferences import TinyComparisons

ROOT = Path(__file__).parent.parent.parent
TRUNK = str(ROOT / "assets" / "tiny-vlm-teller")


@pytest.fixture
def critic():
    """A builder: the tiny trunk with an untrained head on it."""

    def build(head) -> Critic:
        torch.manual_seed(0)
        with quiet("transformers"):
            trunk, processor = trainable_model(TRUNK, "model")
        return Critic(trunk, processor, head, (9216, 9216)).eval()

    return build


@pytest.fixture(scope="session")
def reports():
    """Comparisons of three reports each, of different lengths."""
    return TinyComparisons(task="reports", count=4, answers=3).comparisons()


@pytest.fixture(scope="session")
def drawings():
    return TinyComparisons(task="drawings", count=3, answers=3).comparisons()
