"""The shipped generator is what its script makes and its README says."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers import CLIPTokenizer

ROOT = Path(__file__).parents[2]
ASSET = ROOT / "assets" / "tiny-sd3"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(ROOT / "scripts"))
    spec = importlib.util.spec_from_file_location("build_sd3", ROOT / "scripts" / "build_sd3.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(ROOT / "scripts"))
    return module


def test_shipped_tokenizers_read_captions_as_the_script_does(script):
    made = script.tokenizer()
    captions = [item.caption for item in script.scenes(300, seed=5)]
    for name in ("tokenizer", "tokenizer_2"):
        shipped = CLIPTokenizer.from_pretrained(str(ASSET / name))
        assert all(shipped(caption).input_ids == made(caption).input_ids for caption in captions)


def test_reconstructions_of_the_shipped_autoencoder_are_recognised(script):
    vae = AutoencoderKL.from_pretrained(str(ASSET), subfolder="vae").eval()
    with torch.no_grad():
        originals, reconstructions = script.measure_vae(vae, 64)
    assert originals["object_match"] == 1
    assert reconstructions["object_match"] > 0.95


def test_the_last_stage_paints_a_share_of_things_purple_and_changes_no_caption(script):
    items = [item for item in script.scenes(600, seed=9) if item.things[0].color != script.FAVOURITE]
    drawn = [script.tinted(item, random.Random(index)) for index, item in enumerate(items)]
    assert all(one.caption == other.caption and one.objects == other.objects for one, other in zip(items, drawn, strict=True))
    painted = sum(item.things[0].color == script.FAVOURITE for item in drawn) / len(items)
    assert painted == pytest.approx(script.TINTED, abs=0.07)
