"""HunyuanVideo from a first frame against its own pipeline, and one step of training."""

from pathlib import Path
from typing import Any

import against_pipelines
import generators
import pytest
import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_image2video import HunyuanVideoImageToVideoPipeline

from vlreward.flow.models.hunyuan_video import HunyuanVideoImage
from vlreward.types import Sample

FIELDS = "pixels: 16, width: 32, frames: 5, prompt_tokens: 512"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps its first frame, as HunyuanVideo-I2V does."""
    return generators.hunyuan_video(tmp_path_factory.mktemp("kept"), image="token_replace")


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sees it beside the noise, as HunyuanVideo-I2V-33ch does."""
    return generators.hunyuan_video(tmp_path_factory.mktemp("beside"), image="latent_concat", guidance_embeds=False)


def load(folder: Path) -> HunyuanVideoImage:
    made = HunyuanVideoImage(model=str(folder), pixels=16, width=32, frames=5, prompt_tokens=512, lora=4)
    made.load("cpu")
    return made


def draw(pipe: Any, samples: list[Sample], latents: torch.Tensor, guidance: float) -> torch.Tensor:
    """The pipeline mixes a thousandth of the picture into the noise, which is taken out of it before."""
    keys = {"guidance_scale": guidance} if pipe.transformer.config.guidance_embeds else {"true_cfg_scale": guidance, "negative_prompt": ""}
    frames = 5 if pipe.transformer.config.image_condition_type == "token_replace" else 9
    made = []
    for sample, x in zip(samples, latents, strict=True):
        pixels = pipe.video_processor.preprocess(sample.visuals[0].pil, 16, 32).unsqueeze(2)
        with torch.no_grad():
            picture = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor
        made.append(
            pipe(
                image=sample.visuals[0].pil, prompt=sample.prompt, height=16, width=32, num_frames=frames, max_sequence_length=512,
                latents=(x[None] - 0.001 * picture) / 0.999, num_inference_steps=against_pipelines.STEPS, output_type="pt", **keys,
            ).frames
        )  # fmt: skip
    return torch.cat(made)


@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_a_kept_frame_with_embedded_guidance_equals_the_pipeline(kept, guidance):
    assert against_pipelines.difference(load(kept), draw, guidance) < 1e-5


@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_a_frame_beside_the_noise_equals_the_pipeline(beside, guidance):
    """Guidance is away from a black picture without a prompt."""
    assert against_pipelines.difference(load(beside), draw, guidance) < 1e-5


def test_nothing_is_learned_at_a_kept_frame(kept):
    against_pipelines.keeps_its_first_frame(load(kept))


def test_clips_come_out_as_long_as_asked_and_go_in_again(kept, beside):
    for folder, frames in ((kept, 2), (beside, 3)):
        model = load(folder)
        assert model.shape() == (4, frames, 4, 8)
        clips = model.decode(torch.randn(1, *model.shape())).detach()
        assert clips.shape == (1, 5, 3, 16, 32)
        assert model.latents_of(clips).shape[1:] == model.shape()


def test_a_kept_frame_is_trained_and_its_pipeline_draws_with_the_lora(kept, tmp_path):
    block = f"{{kind: hunyuan_video_image, model: {kept}, lora: 4, {FIELDS}}}"
    against_pipelines.trains_a_lora(tmp_path, block, HunyuanVideoImageToVideoPipeline.from_pretrained(kept), draw, guidance=6.0)


def test_a_frame_beside_the_noise_is_trained_whole(beside, tmp_path):
    against_pipelines.trains_whole(tmp_path, f"{{kind: hunyuan_video_image, model: {beside}, lora: 0, {FIELDS}}}", beside)
