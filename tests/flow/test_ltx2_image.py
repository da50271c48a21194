"""LTX-2 from a first frame against its own pipeline, and one step of training."""

from pathlib import Path
from typing import Any

import against_pipelines
import generators
import numpy as np
import pytest
import torch
from diffusers.pipelines.ltx2.pipeline_ltx2_image2video import LTX2ImageToVideoPipeline
from diffusers.pipelines.ltx2.utils import apply_image_conditioning_crf
from PIL import Image

from vlreward.flow.models.ltx2 import Ltx2Image
from vlreward.types import Sample

FIELDS = "pixels: 32, width: 32, frames: 5, fps: 25, prompt_tokens: 16"
KEYS: dict[str, Any] = {"pixels": 32, "width": 32, "frames": 5, "fps": 25.0, "prompt_tokens": 16}
FRAME, NUMBERS = 16 * 16, 3 * 16 * 16 * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generators.ltx2(tmp_path_factory.mktemp("ltx2-image"), LTX2ImageToVideoPipeline)


def load(folder: Path, **more: Any) -> Ltx2Image:
    made = Ltx2Image(model=str(folder), lora=4, **KEYS | more)
    made.load("cpu")
    return made


def draw(pipe: Any, samples: list[Sample], latents: torch.Tensor, guidance: float, crf: int = 33) -> torch.Tensor:
    """Where the pipeline is given latents it takes its first frame from them, so it is put there by the pipeline's own function.

    It works with packed ones, which its check alone refuses.
    """
    pipe.check_inputs = lambda *given, **keys: None
    picture, sound = latents[:, :NUMBERS].unflatten(1, (-1, 4)), latents[:, NUMBERS:].unflatten(1, (-1, 4))
    sound = sound * pipe.audio_vae.latents_std + pipe.audio_vae.latents_mean
    only = {"stg_scale": 0.0, "modality_scale": 1.0, "guidance_rescale": 0.0, "spatio_temporal_guidance_blocks": None}
    made = []
    for i, sample in enumerate(samples):
        shown = Image.fromarray(apply_image_conditioning_crf(np.array(sample.visuals[0].pil), crf))
        with torch.no_grad():
            pixels = pipe.video_processor.preprocess(shown, height=32, width=32)
            first, _ = pipe.prepare_latents(pixels, 1, 4, 32, 32, 5, dtype=torch.float32, device="cpu")
        made.append(
            pipe(
                shown, sample.prompt, negative_prompt="", height=32, width=32, num_frames=5, frame_rate=25.0, guidance_scale=guidance,
                audio_guidance_scale=guidance, audio_stg_scale=0.0, audio_modality_scale=1.0, audio_guidance_rescale=0.0,
                latents=torch.cat([first[:, :FRAME], picture[i : i + 1, FRAME:]], 1), audio_latents=sound[i : i + 1],
                num_inference_steps=against_pipelines.STEPS, max_sequence_length=16, use_cross_timestep=True, output_type="pt", **only,
            ).frames
        )  # fmt: skip
    return torch.cat(made)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_our_ode_equals_the_pipeline(folder, guidance):
    assert against_pipelines.difference(load(folder), draw, guidance) < 1e-5


def test_how_the_picture_is_compressed_is_an_option(folder):
    plain = lambda *asked: draw(*asked, crf=0)  # noqa: E731
    assert against_pipelines.difference(load(folder, crf=0), plain, 1.0) < 1e-5
    assert against_pipelines.difference(load(folder), plain, 1.0) > 1e-3


def test_nothing_is_learned_at_the_kept_frame(folder):
    """In the picture's part of the latents, behind which is the sound's."""
    kept = 4 * FRAME
    against_pipelines.keeps_its_first_frame(load(folder), lambda x: x.split([kept, NUMBERS - kept, x.shape[1] - NUMBERS], 1))


def test_a_lora_is_trained_and_the_pipeline_draws_with_it(folder, tmp_path):
    block = f"{{kind: ltx2_image, model: {folder}, lora: 4, {FIELDS}}}"
    against_pipelines.trains_a_lora(tmp_path, block, LTX2ImageToVideoPipeline.from_pretrained(folder), draw, guidance=3.0)


def test_the_whole_transformer_is_trained(folder, tmp_path):
    against_pipelines.trains_whole(tmp_path, f"{{kind: ltx2_image, model: {folder}, lora: 0, {FIELDS}}}", folder)
