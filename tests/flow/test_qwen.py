"""Qwen-Image against its own pipeline, and one step of training."""

from pathlib import Path
from typing import Any

import against_pipelines
import generators
import pytest
import torch
from diffusers.pipelines.qwenimage.pipeline_qwenimage import QwenImagePipeline

from vlreward.flow.models.base import Embeddings
from vlreward.flow.models.pipeline import pack
from vlreward.flow.models.qwen import QwenImage


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generators.qwen(tmp_path_factory.mktemp("qwen"))


@pytest.fixture
def model(folder: Path) -> QwenImage:
    made = QwenImage(model=str(folder), pixels=24, lora=4)
    made.load("cpu")
    return made


def draw(pipe: Any, prompts: list[str], latents: torch.Tensor, guidance: float) -> torch.Tensor:
    return pipe(
        prompts, negative_prompt=[""] * len(prompts), true_cfg_scale=guidance, height=24, width=24, latents=pack(latents),
        num_inference_steps=against_pipelines.STEPS, output_type="pt",
    ).images  # fmt: skip


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_our_ode_equals_the_pipeline(model, guidance):
    assert against_pipelines.difference(model, draw, guidance) < 1e-5


def test_guidance_keeps_the_length_of_every_token(model):
    conditional, unconditional = torch.randn(2, 2, 4, 6, 6)
    guided = model.combine(conditional, unconditional, 4.0)
    assert torch.allclose(pack(guided).norm(dim=-1), pack(conditional).norm(dim=-1), atol=1e-5)
    assert not torch.allclose(guided, conditional, atol=0.1)


def test_longer_prompts_in_the_table_do_not_change_a_velocity(model):
    """Padding of the table is masked."""
    x, s = torch.randn(1, *model.shape()), torch.tensor([0.6])
    few, many = (Embeddings(model, prompts)(["a red circle"]) for prompts in (["a red circle"], ["a red circle", "a cross " * 9]))
    assert few["tokens"].shape[1] < many["tokens"].shape[1]
    with torch.no_grad():
        assert torch.allclose(model.velocity(x, s, few), model.velocity(x, s, many), atol=1e-6)


@pytest.mark.parametrize("targets", ["attention", "linear"])
def test_a_lora_is_trained_and_the_pipeline_draws_with_it(folder, tmp_path, targets):
    block = f"{{kind: qwen_image, model: {folder}, pixels: 24, lora: 4, targets: {targets}}}"
    against_pipelines.trains_a_lora(tmp_path, block, QwenImagePipeline.from_pretrained(folder), draw, guidance=4.0)


def test_the_whole_transformer_is_trained(folder, tmp_path):
    against_pipelines.trains_whole(tmp_path, f"{{kind: qwen_image, model: {folder}, pixels: 24, lora: 0}}", folder, guidance=4.0)
