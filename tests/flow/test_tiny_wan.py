"""The shipped generator of clips is what its script makes and its README says."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from transformers import AutoTokenizer

from vlreward.flow import evaluate
from vlreward.flow.math import sigmas
from vlreward.flow.models.base import Embeddings
from vlreward.flow.models.wan import Wan
from vlreward.flow.rollout import rollout
from vlreward.tiny.motion import FRAMES

ROOT = Path(__file__).parents[2]
ASSET = ROOT / "assets" / "tiny-wan"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(ROOT / "scripts"))
    spec = importlib.util.spec_from_file_location("build_wan", ROOT / "scripts" / "build_wan.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(ROOT / "scripts"))
    return module


def test_it_is_small():
    assert sum(file.stat().st_size for file in ASSET.rglob("*") if file.is_file()) < 5_000_000


def test_the_shipped_tokenizer_reads_captions_as_the_script_does(script):
    made, shipped = script.tokenizer(), AutoTokenizer.from_pretrained(str(ASSET / "tokenizer"))
    for item in script.glides(100, seed=5) + script.glides(50, seed=5, new=True):
        assert shipped(item.caption).input_ids == made(item.caption).input_ids
        assert len(made(item.caption).input_ids) == 6


def test_the_shipped_autoencoder_has_the_scripts_bits_and_its_reconstructions_are_recognised(script):
    made, shipped = script.make_vae(), AutoencoderKLWan.from_pretrained(str(ASSET), subfolder="vae").eval()
    for name, weight in shipped.state_dict().items():
        assert torch.allclose(weight, made.state_dict()[name], atol=1e-4), name
    originals, reconstructions = script.measure_vae(shipped, 48)
    assert originals["motion_match"] == 1
    assert reconstructions["motion_match"] > 0.95


def test_the_autoencoders_last_channel_tells_how_many_frames_came_before(script):
    vae = AutoencoderKLWan.from_pretrained(str(ASSET), subfolder="vae").eval()
    told = script.encoded(vae, script.pixels(script.glides(40, seed=3, new=True)))[:, -1]
    assert told.mean((0, 2, 3)) == pytest.approx(torch.tensor([0.0, 1, 3, 5, 6]), abs=0.1)


def test_a_clip_is_told_in_full_or_with_less(script):
    item = script.glides(1, seed=3)[0]
    color, way = item.start.things[0].color, item.target["motions"][0]["direction"]
    assert script.captions(item) == (f"a {color} circle moving {way}", f"a circle moving {way}", f"a {color} circle", "")
    assert sum(script.CAPTIONS) == 1


def test_the_last_stage_stops_a_share_of_clips_and_changes_no_caption(script):
    items = script.glides(400, seed=9)
    drawn = [script.stilled(item, random.Random(index)) for index, item in enumerate(items)]
    still = [item for item in drawn if item.velocities[0] == (0.0, 0.0)]
    assert len(still) / len(items) == pytest.approx(script.STILL, abs=0.07)
    assert all(len({item.boxes(32, 32)[k][0][0] for k in range(FRAMES)}) == 1 for item in still[:20])


def test_it_draws_by_our_loop_what_its_readme_says(script):
    model = Wan(model=str(ASSET), pixels=32, frames=FRAMES, prompt_tokens=script.TOKENS, lora=0)
    model.load("cpu")
    items = script.glides(48, script.EVALUATION_SEED, new=True)
    condition = Embeddings(model, [item.caption for item in items])([item.caption for item in items])
    noise = torch.randn(48, *model.shape(), generator=torch.Generator().manual_seed(0))
    plan = evaluate.plan(sigmas(8, **model.schedule(8)), 1.0)
    with torch.no_grad():
        ends = rollout(lambda x, s, policy="train": model.velocity(x, s, condition), plan, noise, lambda i: torch.empty(0)).x0
        figures = script.motion_match(model.decode(ends), items)
    assert 0.56 < figures["motion_match"] < 0.7
