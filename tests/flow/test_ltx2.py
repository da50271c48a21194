"""LTX-2 against its own pipeline, picture and sound, and one step of training."""

from pathlib import Path
from typing import Any

import against_pipelines
import generators
import pytest
import torch
from diffusers.pipelines.ltx2.pipeline_ltx2 import LTX2Pipeline

from vlreward.flow.models.ltx2 import Ltx2

FIELDS = "pixels: 32, width: 32, frames: 5, fps: 25, prompt_tokens: 16"
KEYS: dict[str, Any] = {"pixels": 32, "width": 32, "frames": 5, "fps": 25.0, "prompt_tokens": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generators.ltx2(tmp_path_factory.mktemp("ltx2"))


def load(folder: Path, **more: Any) -> Ltx2:
    made = Ltx2(model=str(folder), lora=4, **KEYS | more)
    made.load("cpu")
    return made


def draw(pipe: Any, prompts: list[str], latents: torch.Tensor, guidance: float, cross_timestep: bool = True) -> torch.Tensor:
    """The pipeline takes the sound's latents as the autoencoder has them, and the picture's as the network does."""
    picture, sound = latents.split([3 * 16 * 16 * 4, latents.shape[1] - 3 * 16 * 16 * 4], 1)
    sound = sound.unflatten(1, (-1, 4)) * pipe.audio_vae.latents_std + pipe.audio_vae.latents_mean
    only = {"stg_scale": 0.0, "modality_scale": 1.0, "guidance_rescale": 0.0, "spatio_temporal_guidance_blocks": None}
    return pipe(
        prompts, negative_prompt=[""] * len(prompts), height=32, width=32, num_frames=5, frame_rate=25.0, guidance_scale=guidance,
        audio_guidance_scale=guidance, audio_stg_scale=0.0, audio_modality_scale=1.0, audio_guidance_rescale=0.0,
        latents=picture.unflatten(1, (-1, 4)), audio_latents=sound, num_inference_steps=against_pipelines.STEPS, max_sequence_length=16,
        use_cross_timestep=cross_timestep, output_type="pt", **only,
    ).frames  # fmt: skip


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_our_ode_equals_the_pipeline(folder, guidance):
    assert against_pipelines.difference(load(folder), draw, guidance) < 1e-5


def test_without_cross_timesteps_it_equals_the_pipeline_without(folder):
    without = lambda *asked: draw(*asked, cross_timestep=False)  # noqa: E731
    assert against_pipelines.difference(load(folder, cross_timestep=False), without, 3.0) < 1e-5


def test_the_picture_hears_the_sound_and_is_alone_decoded(folder):
    model = load(folder)
    assert model.shape() == (3 * 16 * 16 * 4 + model.sound[0] * 4,)
    condition, x, s = model.encode(["a red circle"]), torch.randn(1, *model.shape()), torch.tensor([0.6])
    louder = torch.cat([x[:, : 3 * 16 * 16 * 4], 2 * x[:, 3 * 16 * 16 * 4 :]], 1)
    with torch.no_grad():
        quiet, loud = (model.velocity(latents, s, condition) for latents in (x, louder))
        assert (quiet - loud)[:, : 3 * 16 * 16 * 4].abs().max() > 1e-6
        assert model.decode(x).shape == (1, 5, 3, 32, 32)
        assert torch.equal(model.decode(x), model.decode(louder))


@pytest.mark.parametrize("targets", ["attention", "linear"])
def test_a_lora_is_trained_and_the_pipeline_draws_with_it(folder, tmp_path, targets):
    block = f"{{kind: ltx2, model: {folder}, lora: 4, targets: {targets}, {FIELDS}}}"
    against_pipelines.trains_a_lora(tmp_path, block, LTX2Pipeline.from_pretrained(folder), draw, guidance=3.0)


def test_the_whole_transformer_is_trained(folder, tmp_path):
    against_pipelines.trains_whole(tmp_path, f"{{kind: ltx2, model: {folder}, lora: 0, {FIELDS}}}", folder, guidance=3.0)
