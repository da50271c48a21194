"""HunyuanVideo-1.5, from words and from a first frame, against its own pipelines, and one step of training."""

from pathlib import Path
from typing import Any

import against_pipelines
import generators
import pytest
import torch
from diffusers.guiders.classifier_free_guidance import ClassifierFreeGuidance
from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5 import HunyuanVideo15Pipeline
from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5_image2video import HunyuanVideo15ImageToVideoPipeline

from vlreward.errors import ConfigError
from vlreward.flow.models.hunyuan_video15 import HunyuanVideo15, HunyuanVideo15Image
from vlreward.types import Sample

FIELDS = "pixels: 16, width: 32, frames: 5, prompt_tokens: 64"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generators.hunyuan_video15(tmp_path_factory.mktemp("hunyuan15"))


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generators.hunyuan_video15(tmp_path_factory.mktemp("hunyuan15-image"), image=True)


@pytest.fixture
def signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of which two have words to be written."""
    monkeypatch.setattr(against_pipelines, "PROMPTS", ['a sign that says "OPEN"', "a red circle", 'a box with "AB" and "C"'])


def load(kind: Any, folder: Path) -> Any:
    made = kind(model=str(folder), pixels=16, width=32, frames=5, prompt_tokens=64, lora=4)
    made.load("cpu")
    return made


def guide(pipe: Any, guidance: float) -> dict[str, Any]:
    pipe.vae.enable_slicing()
    pipe.guider, pipe.tokenizer_max_length = ClassifierFreeGuidance(guidance_scale=guidance), 64
    return {"num_frames": 5, "num_inference_steps": against_pipelines.STEPS, "output_type": "pt"}


def draw(pipe: Any, prompts: list[str], latents: torch.Tensor, guidance: float) -> torch.Tensor:
    empty = [""] * len(prompts)
    return pipe(prompts, negative_prompt=empty, height=16, width=32, latents=latents, **guide(pipe, guidance)).frames


def draw_from(pipe: Any, samples: list[Sample], latents: torch.Tensor, guidance: float) -> torch.Tensor:
    """The pipeline by itself chooses the clip's shape by the picture's."""
    pipe.video_processor.calculate_default_height_width = lambda **picture: (16, 32)
    keys = guide(pipe, guidance)
    return torch.cat([
        pipe(image=sample.visuals[0].pil, prompt=sample.prompt, negative_prompt="", latents=x[None], **keys).frames
        for sample, x in zip(samples, latents, strict=True)
    ])  # fmt: skip


class Lora:
    """These pipelines load no LoRA, but their transformers do."""

    def load_lora_weights(self, place: Path) -> None:
        self.transformer.load_lora_adapter(place, use_safetensors=True)  # type: ignore[attr-defined]


class Pipe(Lora, HunyuanVideo15Pipeline): ...


class ImagePipe(Lora, HunyuanVideo15ImageToVideoPipeline): ...


@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_our_ode_equals_the_pipeline(folder, signs, guidance):
    assert against_pipelines.difference(load(HunyuanVideo15, folder), draw, guidance) < 1e-5


@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_our_ode_from_a_first_frame_equals_the_pipeline(image_folder, signs, guidance):
    assert against_pipelines.difference(load(HunyuanVideo15Image, image_folder), draw_from, guidance) < 1e-5


def test_no_room_is_kept_for_padding_and_masks_are_no_embeddings(folder):
    """Which a latent reward would take a float for."""
    few, many = (load(HunyuanVideo15, folder).encode(prompts) for prompts in (["a"], ["a", 'a box with "AB" and "C"']))
    assert few["letters"].shape[1] == 0 < many["letters"].shape[1] < 256
    assert few["letters_mask"].dtype == few["mask"].dtype == torch.bool


def test_a_model_that_jumps_between_two_times_is_refused(folder, monkeypatch):
    model = load(HunyuanVideo15, folder)
    model.pipe.transformer.register_to_config(use_meanflow=True)
    with pytest.raises(ConfigError, match=r"generator\.model: is .*, which was distilled to jump between two times"):
        model.check()


def test_a_lora_is_trained_and_the_transformer_draws_with_it(folder, tmp_path):
    block = f"{{kind: hunyuan_video15, model: {folder}, lora: 4, targets: linear, {FIELDS}}}"
    against_pipelines.trains_a_lora(tmp_path, block, Pipe.from_pretrained(folder), draw, guidance=6.0)


def test_a_lora_is_trained_from_first_frames(image_folder, tmp_path):
    block = f"{{kind: hunyuan_video15_image, model: {image_folder}, lora: 4, {FIELDS}}}"
    against_pipelines.trains_a_lora(tmp_path, block, ImagePipe.from_pretrained(image_folder), draw_from, guidance=6.0)


def test_the_whole_transformer_is_trained(folder, tmp_path):
    against_pipelines.trains_whole(tmp_path, f"{{kind: hunyuan_video15, model: {folder}, lora: 0, {FIELDS}}}", folder)
