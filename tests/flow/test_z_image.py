"""Z-Image against its own pipeline, and one step of training."""

from pathlib import Path
from typing import Any

import against_pipelines
import generators
import pytest
import torch
from diffusers.pipelines.z_image.pipeline_z_image import ZImagePipeline

from vlreward.flow.models.z_image import ZImage


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generators.z_image(tmp_path_factory.mktemp("z_image"))


@pytest.fixture
def model(folder: Path) -> ZImage:
    made = ZImage(model=str(folder), pixels=24, lora=4, prompt_tokens=64)
    made.load("cpu")
    return made


def draw(pipe: Any, prompts: list[str], latents: torch.Tensor, guidance: float) -> torch.Tensor:
    return pipe(
        list(prompts), guidance_scale=guidance - 1, height=24, width=24, num_inference_steps=against_pipelines.STEPS, latents=latents,
        max_sequence_length=64, output_type="pt",
    ).images  # fmt: skip


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_our_ode_equals_the_pipeline_whose_guidance_counts_from_0(model, guidance):
    assert against_pipelines.difference(model, draw, guidance) < 1e-5


@pytest.mark.parametrize("targets", ["attention", "linear"])
def test_a_lora_is_trained_and_the_pipeline_draws_with_it(folder, tmp_path, targets):
    block = f"{{kind: z_image, model: {folder}, pixels: 24, lora: 4, prompt_tokens: 64, targets: {targets}}}"
    against_pipelines.trains_a_lora(tmp_path, block, ZImagePipeline.from_pretrained(folder), draw, guidance=4.0)


def test_the_whole_transformer_is_trained(folder, tmp_path):
    against_pipelines.trains_whole(
        tmp_path, f"{{kind: z_image, model: {folder}, pixels: 24, lora: 0, prompt_tokens: 64}}", folder, guidance=4.0
    )
