"""Wan from a first and a last frame against its own pipeline, and one step of training."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import against_pipelines
import generators
import pytest
import torch
from diffusers.pipelines.wan.pipeline_wan_i2v import WanImageToVideoPipeline

from vlreward.errors import ConfigError, DataError
from vlreward.flow.models.base import Embeddings
from vlreward.flow.models.wan import WanFirstLast, WanImage
from vlreward.types import Sample

EDITS = against_pipelines.edits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generators.wan(tmp_path_factory.mktemp("wan"), image="both features")


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """Three samples with two pictures each."""
    samples = EDITS()
    pictures = [sample.visuals[0] for sample in samples]
    made = [replace(sample, visuals=(pictures[i], pictures[i - 1])) for i, sample in enumerate(samples)]
    monkeypatch.setattr(against_pipelines, "edits", lambda several: made)
    return made


@pytest.fixture
def data(ends: list[Sample], tmp_path: Path) -> tuple[str, str]:
    rows = []
    for sample in ends:
        names = [f"{sample.id}-{end}.png" for end in range(2)]
        for name, picture in zip(names, sample.visuals, strict=True):
            picture.pil.save(tmp_path / name)
        rows.append({"id": sample.id, "prompt": sample.prompt, "images": names})
    (tmp_path / "ends.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (f"{{path: {tmp_path / 'ends.jsonl'}}}",) * 2


def load(folder: Path, kind: Any = WanFirstLast, **more: Any) -> Any:
    made = kind(model=str(folder), **{"pixels": 16, "width": 32, "frames": 5, "lora": 4} | more)
    made.load("cpu")
    return made


def draw(pipe: Any, samples: list[Sample], latents: torch.Tensor, guidance: float) -> torch.Tensor:
    made = []
    for sample, x in zip(samples, latents, strict=True):
        first, last = (picture.pil for picture in sample.visuals)
        made.append(
            pipe(
                image=first, last_image=last, prompt=sample.prompt, negative_prompt="", guidance_scale=guidance, height=16, width=32,
                num_frames=5, latents=x[None], num_inference_steps=against_pipelines.STEPS, output_type="pt",
            ).frames
        )  # fmt: skip
    return torch.cat(made)


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_our_ode_equals_the_pipeline(folder, ends, guidance):
    assert against_pipelines.difference(load(folder), draw, guidance, grid="native") < 1e-5


def test_two_experts_that_see_no_features_equal_the_pipeline(tmp_path, ends):
    """As Wan 2.2-A14B has them."""
    model = load(generators.wan(tmp_path, image="latents", experts=0.95))
    assert against_pipelines.difference(model, draw, 5.0, grid="native") < 1e-5


def test_a_sample_without_a_last_frame_is_refused(folder):
    with pytest.raises(DataError, match="'a red circle': has 1 pictures, but kind 'wan_first_last' is given 2"):
        Embeddings(load(folder), EDITS())


def test_a_model_of_one_picture_and_one_of_two_are_not_taken_for_each_other(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"generator\.model: is .*, to which 2 of a clip's frames can be given; kind 'wan_image' gives 1"):
        load(folder, WanImage)
    for name, more in (("features", {"image": "features"}), ("kept", {"image": "latents", "expand_timesteps": True})):
        one = generators.wan(tmp_path / name, **more)
        with pytest.raises(ConfigError, match=r"to which 1 of a clip's frames can be given; kind 'wan_first_last' gives 2"):
            load(one)


@pytest.mark.parametrize(("key", "value"), [("frames", 1), ("prompt_tokens", 24)])
def test_sizes_that_leave_no_room_for_what_is_given_are_refused(folder, key, value):
    with pytest.raises(ConfigError, match=rf"generator\.{key}: is {value}, "):
        load(folder, **{key: value})


def test_a_lora_is_trained_and_the_pipeline_draws_with_it(folder, data, tmp_path):
    block = f"{{kind: wan_first_last, model: {folder}, pixels: 16, width: 32, frames: 5, lora: 4}}"
    pipe = WanImageToVideoPipeline.from_pretrained(folder)
    against_pipelines.trains_a_lora(tmp_path, block, pipe, draw, guidance=5.0, grid="native", data=data)


def test_the_whole_transformer_is_trained(folder, data, tmp_path):
    block = f"{{kind: wan_first_last, model: {folder}, pixels: 16, width: 32, frames: 5, lora: 0}}"
    against_pipelines.trains_whole(tmp_path, block, folder, data=data)
