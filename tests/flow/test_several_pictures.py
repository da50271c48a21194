"""Generators that make one picture of several, each against its own pipeline, and one step of training."""

from pathlib import Path
from typing import Any

import against_pipelines
import generators
import pytest
import torch
from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor
from diffusers.pipelines.flux2.pipeline_flux2 import Flux2Pipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus

from vlreward.data.media import Clip, Picture
from vlreward.errors import DataError
from vlreward.flow.models.base import Embeddings, Generator
from vlreward.flow.models.flux2 import Flux2Edit, Flux2KleinEdit
from vlreward.flow.models.pipeline import pack
from vlreward.flow.models.qwen import QwenImageEditPlus
from vlreward.types import Sample

PLUS = pipeline_qwenimage_edit_plus.QwenImageEditPlusPipeline
KEYS: dict[str, Any] = {"pixels": 32, "lora": 4}


def load(kind: Any, folder: Path, **keys: Any) -> Any:
    made = kind(model=str(folder), **KEYS | keys)
    made.load("cpu")
    return made


def qwen(pipe: Any, samples: list[Sample], latents: torch.Tensor, guidance: float) -> torch.Tensor:
    """What the pipeline makes of each sample alone, with all of its pictures."""
    return torch.cat([
        pipe(
            image=[picture.pil for picture in sample.visuals], prompt=sample.prompt, negative_prompt="", true_cfg_scale=guidance,
            height=32, width=32, latents=pack(x[None]), num_inference_steps=against_pipelines.STEPS, output_type="pt",
        ).images
        for sample, x in zip(samples, latents, strict=True)
    ])  # fmt: skip


def flux(pipe: Any, samples: list[Sample], latents: torch.Tensor, guidance: float) -> torch.Tensor:
    """The same; the pipeline makes pictures of more than a megapixel smaller, here those of more than are made."""
    shrunk = [[picture.pil for picture in sample.visuals] for sample in samples]
    shrunk = [[Flux2ImageProcessor._resize_to_target_area(pil, 32 * 32) for pil in pictures] for pictures in shrunk]
    return torch.cat([
        pipe(
            image=pictures, prompt=sample.prompt, guidance_scale=guidance, height=32, width=32, latents=x[None], max_sequence_length=64,
            num_inference_steps=against_pipelines.STEPS, output_type="pt",
        ).images
        for sample, pictures, x in zip(samples, shrunk, latents, strict=True)
    ])  # fmt: skip


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """FLUX.2's pipeline refuses pictures as small as these."""
    monkeypatch.setattr(Flux2ImageProcessor, "check_image_input", lambda *picture: None)


@pytest.fixture(scope="module")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generators.qwen(tmp_path_factory.mktemp("qwen-edit-plus"), edits=PLUS)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen-Image-Edit-Plus' pipeline takes every source to a megapixel; here to as many pixels as are made."""
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", 32 * 32)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_qwen_image_edit_plus_equals_the_pipeline(qwen_folder, small, guidance):
    assert against_pipelines.difference(load(QwenImageEditPlus, qwen_folder), qwen, guidance) < 1e-5


def test_sources_whose_time_is_zero_equal_the_pipeline(tmp_path, small):
    """As Qwen-Image-Edit-2511 has them."""
    model = load(QwenImageEditPlus, generators.qwen(tmp_path, edits=PLUS, zero_cond_t=True))
    assert against_pipelines.difference(model, qwen, 1.0) < 1e-5


def test_every_picture_counts_and_so_does_their_order(qwen_folder):
    model = load(QwenImageEditPlus, qwen_folder)
    two, _, one = against_pipelines.edits(several=True)
    rows = [
        one,
        two,
        Sample(id="", prompt=two.prompt, visuals=two.visuals[::-1]),
        Sample(id="", prompt=two.prompt, visuals=two.visuals[:1]),
    ]
    condition = Embeddings(model, rows)(rows)
    assert condition["shapes"].tolist() == [[[8, 8], [0, 0]], [[8, 16], [16, 8]], [[16, 8], [8, 16]], [[8, 16], [0, 0]]]
    x, s = torch.randn(1, *model.shape()).expand(4, -1, -1, -1), torch.full((4,), 0.6)
    with torch.no_grad():
        v = model.velocity(x, s, condition)
    assert all((v[i] - v[j]).abs().max() > 1e-4 for i in range(1, 4) for j in range(i))


def test_rows_of_different_sources_learn_in_one_batch(qwen_folder):
    model: Generator = load(QwenImageEditPlus, qwen_folder)
    samples = against_pipelines.edits(several=True)
    x = torch.randn(len(samples), *model.shape())
    weights = [weight for weight in model.net.parameters() if weight.requires_grad]
    table = Embeddings(model, samples)

    def gradient(rows: list[int]) -> torch.Tensor:
        v = model.velocity(x[rows], torch.full((len(rows),), 0.6), table([samples[row] for row in rows]))
        found = torch.autograd.grad(v.square().sum(), weights, allow_unused=True)
        return torch.cat([g.flatten() for g in found if g is not None])

    together, alone = gradient([0, 1, 2]), sum(gradient([row]) for row in range(3))
    assert (together - alone).abs().max() < 1e-4 * together.abs().max()


def test_qwen_image_edit_plus_is_trained_and_its_pipeline_draws_with_the_lora(qwen_folder, tmp_path, small):
    block = f"{{kind: qwen_image_edit_plus, model: {qwen_folder}, pixels: 32, lora: 4}}"
    against_pipelines.trains_a_lora(tmp_path, block, PLUS.from_pretrained(qwen_folder), qwen, guidance=4.0)


def test_qwen_image_edit_plus_is_trained_whole(qwen_folder, tmp_path):
    against_pipelines.trains_whole(tmp_path, f"{{kind: qwen_image_edit_plus, model: {qwen_folder}, pixels: 32, lora: 0}}", qwen_folder)


def test_flux2_with_pictures_and_embedded_guidance_equals_the_pipeline(flux2, tiny):
    assert against_pipelines.difference(load(Flux2Edit, flux2, prompt_tokens=64), flux, 4.0) < 1e-5


def test_klein_with_pictures_and_classifier_free_guidance_equals_the_pipeline(klein, tiny):
    assert against_pipelines.difference(load(Flux2KleinEdit, klein, prompt_tokens=64), flux, 4.0) < 1e-5


def test_flux2_leaves_small_sources_as_they_are_and_makes_large_ones_small(klein):
    model = load(Flux2KleinEdit, klein, prompt_tokens=64)
    assert model.seen(Picture(torch.rand(3, 20, 30))).shape == (1, 3, 20, 28)
    assert model.seen(Picture(torch.rand(3, 200, 100))).shape == (1, 3, 44, 20)


def test_flux2_with_pictures_is_trained_and_its_pipeline_draws_with_the_lora(flux2, tmp_path, tiny):
    block = f"{{kind: flux2_edit, model: {flux2}, pixels: 32, lora: 4, prompt_tokens: 64}}"
    against_pipelines.trains_a_lora(tmp_path, block, Flux2Pipeline.from_pretrained(flux2), flux, guidance=4.0)


def test_klein_with_pictures_is_trained_and_its_pipeline_draws_with_the_lora(klein, tmp_path, tiny):
    block = f"{{kind: flux2_klein_edit, model: {klein}, pixels: 32, lora: 4, prompt_tokens: 64}}"
    against_pipelines.trains_a_lora(tmp_path, block, Flux2KleinPipeline.from_pretrained(klein), flux, guidance=4.0)


def test_flux2_with_pictures_is_trained_whole(klein, tmp_path):
    block = f"{{kind: flux2_klein_edit, model: {klein}, pixels: 32, lora: 0, prompt_tokens: 64}}"
    against_pipelines.trains_whole(tmp_path, block, klein, guidance=4.0)


def test_a_clip_among_the_pictures_is_refused(qwen_folder):
    model = load(QwenImageEditPlus, qwen_folder)
    visuals = (Picture(torch.rand(3, 32, 32)), Clip(torch.rand(2, 3, 32, 32)))
    with pytest.raises(DataError, match="row 3: has a clip among its pictures, but the generator starts from pictures"):
        Embeddings(model, [Sample(id="row 3", prompt="put them together", visuals=visuals)])
