"""Shared by all tests: offline, few threads, and small builders of rollouts."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hypothesis
import pytest
from PIL import Image

from vlreward.data.media import Picture
from vlreward.types import Rollout, Sample

hypothesis.settings.register_profile("vlreward", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("vlreward")


@pytest.fixture
def rollout():
    """A builder of rollouts: `rollout("text", boxes=[...])`; keywords go into the target, `made` and `prompt` aside."""

    def build(text: str | None = None, made=None, prompt: str = "a prompt", visuals=(), group: int = 0, **target) -> Rollout:
        return Rollout(sample=Sample(id="s", prompt=prompt, visuals=tuple(visuals), target=target), text=text, made=made, group=group)

    return build


@pytest.fixture
def white() -> Picture:
    return Picture(Image.new("RGB", (96, 96), "white"))
