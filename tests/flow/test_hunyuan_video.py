"""HunyuanVideo against its own pipeline, and one step of training."""

from pathlib import Path
from typing import Any

import against_pipelines
import generators
import pytest
import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import HunyuanVideoPipeline

from vlreward.flow.models.hunyuan_video import HunyuanVideo

FIELDS = "pixels: 16, width: 32, frames: 5, prompt_tokens: 64"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generators.hunyuan_video(tmp_path_factory.mktemp("hunyuan"))


def load(folder: Path) -> HunyuanVideo:
    made = HunyuanVideo(model=str(folder), pixels=16, width=32, frames=5, prompt_tokens=64, lora=4)
    made.load("cpu")
    return made


def draw(pipe: Any, prompts: list[str], latents: torch.Tensor, guidance: float) -> torch.Tensor:
    return pipe(
        prompts, guidance_scale=guidance, height=16, width=32, num_frames=5, latents=latents, num_inference_steps=against_pipelines.STEPS,
        max_sequence_length=64, output_type="pt",
    ).frames  # fmt: skip


@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_our_ode_with_embedded_guidance_equals_the_pipeline(folder, guidance):
    assert against_pipelines.difference(load(folder), draw, guidance) < 1e-5


def test_a_clip_comes_out_frames_first_in_0_to_1_and_carries_gradient(folder):
    model = load(folder)
    x0 = torch.randn(1, *model.shape(), requires_grad=True)
    made = model.decode(x0)
    assert made.shape == (1, 5, 3, 16, 32)
    assert 0 <= made.min() < made.max() <= 1
    made.mean().backward()
    assert x0.grad is not None
    assert x0.grad.abs().sum() > 0


@pytest.mark.parametrize("targets", ["attention", "linear"])
def test_a_lora_is_trained_and_the_pipeline_draws_with_it(folder, tmp_path, targets):
    block = f"{{kind: hunyuan_video, model: {folder}, lora: 4, targets: {targets}, {FIELDS}}}"
    against_pipelines.trains_a_lora(tmp_path, block, HunyuanVideoPipeline.from_pretrained(folder), draw, guidance=6.0)


def test_the_whole_transformer_is_trained(folder, tmp_path):
    against_pipelines.trains_whole(tmp_path, f"{{kind: hunyuan_video, model: {folder}, lora: 0, {FIELDS}}}", folder, guidance=6.0)
