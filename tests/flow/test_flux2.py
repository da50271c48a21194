"""FLUX.2 against its own pipelines, and one step of training."""

from pathlib import Path
from typing import Any

import against_pipelines
import pytest
import torch
from diffusers.pipelines.flux2.pipeline_flux2 import Flux2Pipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline

from vlreward.flow.models.flux2 import Flux2, Flux2Klein

TOKENS = 64


def load(kind: type[Flux2], folder: Path, **more: Any) -> Flux2:
    made = kind(model=str(folder), **{"pixels": 24, "lora": 4, "prompt_tokens": TOKENS} | more)
    made.load("cpu")
    return made


def draw(pipe: Any, prompts: list[str], latents: torch.Tensor, guidance: float) -> torch.Tensor:
    return pipe(
        prompt=prompts, guidance_scale=guidance, height=24, width=24, num_inference_steps=against_pipelines.STEPS, latents=latents,
        max_sequence_length=TOKENS, output_type="pt",
    ).images  # fmt: skip


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_our_ode_with_embedded_guidance_equals_the_pipeline(flux2, guidance):
    assert against_pipelines.difference(load(Flux2, flux2), draw, guidance) < 1e-5


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_our_ode_with_classifier_free_guidance_equals_kleins_pipeline(klein, guidance):
    assert against_pipelines.difference(load(Flux2Klein, klein), draw, guidance) < 1e-5


def test_the_sigma_grid_depends_on_the_number_of_steps(klein):
    model = load(Flux2Klein, klein)
    assert model.schedule(4)["mu"] > model.schedule(50)["mu"]


@pytest.mark.parametrize("targets", ["attention", "linear"])
def test_a_lora_is_trained_and_the_pipeline_draws_with_it(flux2, tmp_path, targets):
    block = f"{{kind: flux2, model: {flux2}, pixels: 24, lora: 4, prompt_tokens: {TOKENS}, targets: {targets}}}"
    against_pipelines.trains_a_lora(tmp_path, block, Flux2Pipeline.from_pretrained(flux2), draw, guidance=4.0)


def test_a_lora_of_klein_is_trained_and_its_pipeline_draws_with_it(klein, tmp_path):
    block = f"{{kind: flux2_klein, model: {klein}, pixels: 24, lora: 4, prompt_tokens: {TOKENS}}}"
    against_pipelines.trains_a_lora(tmp_path, block, Flux2KleinPipeline.from_pretrained(klein), draw, guidance=4.0)


def test_the_whole_transformer_is_trained(klein, tmp_path):
    block = f"{{kind: flux2_klein, model: {klein}, pixels: 24, lora: 0, prompt_tokens: {TOKENS}}}"
    against_pipelines.trains_whole(tmp_path, block, klein, guidance=4.0)
