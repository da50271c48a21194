"""Generators that start from a picture, each against its own pipeline, and one step of training."""

from pathlib import Path
from typing import Any

import against_pipelines
import generators
import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux_kontext import FluxKontextPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit
from diffusers.pipelines.wan.pipeline_wan_i2v import WanImageToVideoPipeline

from vlreward.errors import DataError
from vlreward.flow.collect import collect
from vlreward.flow.models.base import Embeddings, Generator
from vlreward.flow.models.flux import FluxKontext
from vlreward.flow.models.pipeline import pack
from vlreward.flow.models.qwen import QwenImageEdit
from vlreward.flow.models.wan import WanImage
from vlreward.flow.plan import Noise
from vlreward.flow.sampler import Sampler
from vlreward.types import Sample

EDIT = pipeline_qwenimage_edit.QwenImageEditPipeline
STEPS = against_pipelines.STEPS
SMALL: dict[str, Any] = {"pixels": 24, "lora": 4}
CLIP: dict[str, Any] = {"pixels": 16, "width": 32, "frames": 5, "prompt_tokens": 512, "lora": 4}


def loaded(kind: Any, folder: Path, **keys: Any) -> Any:
    made = kind(model=str(folder), **keys)
    made.load("cpu")
    return made


def each(pipe: Any, samples: list[Sample], latents: torch.Tensor, **keys: Any) -> torch.Tensor:
    """What a pipeline makes of each sample alone, since it takes one picture."""
    made = []
    for sample, x in zip(samples, latents):
        [picture] = sample.visuals
        drawn = pipe(image=picture.pil, prompt=sample.prompt, latents=x[None], num_inference_steps=STEPS, output_type="pt", **keys)
        made.append(drawn.frames if hasattr(drawn, "frames") else drawn.images)
    return torch.cat(made)


def kontext(pipe: Any, samples: list[Sample], latents: torch.Tensor, guidance: float, **more: Any) -> torch.Tensor:
    keys = {"height": 24, "width": 24, "max_area": 24 * 24, "max_sequence_length": 16, "guidance_scale": guidance, "_auto_resize": False}
    return torch.cat([
        each(pipe, [Sample(id="", prompt=s.prompt, visuals=(Square(s),))], pack(x[None]), **keys | more) for s, x in zip(samples, latents)
    ])  # fmt: skip


class Square:
    """A sample's picture in the size that is made, which Kontext's pipeline is given where it does not choose a size itself."""

    def __init__(self, sample: Sample):
        self.pil = sample.visuals[0].pil.resize((24, 24), 1)


def qwen(pipe: Any, samples: list[Sample], latents: torch.Tensor, guidance: float) -> torch.Tensor:
    keys = {"negative_prompt": "", "true_cfg_scale": guidance, "height": 24, "width": 24}
    return each(pipe, samples, pack(latents), **keys)


def wan(pipe: Any, samples: list[Sample], latents: torch.Tensor, guidance: float) -> torch.Tensor:
    keys = {"negative_prompt": "", "guidance_scale": guidance, "height": 16, "width": 32, "num_frames": 5, "max_sequence_length": 512}
    return each(pipe, samples, latents, **keys)


@pytest.fixture(scope="module")
def kontext_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generators.flux(tmp_path_factory.mktemp("kontext"), kind=FluxKontextPipeline)


@pytest.fixture(scope="module")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generators.qwen(tmp_path_factory.mktemp("qwen-edit"), edits=EDIT)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen-Image-Edit's pipeline takes every source to a megapixel; here to what is made."""
    monkeypatch.setattr(pipeline_qwenimage_edit, "calculate_dimensions", lambda area, ratio: (24, 24, None))


def test_kontext_with_embedded_guidance_equals_the_pipeline(kontext_folder):
    model = loaded(FluxKontext, kontext_folder, t5_tokens=16, **SMALL)
    assert against_pipelines.difference(model, kontext, 2.5) < 1e-5


def test_kontext_with_classifier_free_guidance_equals_the_pipeline(tmp_path):
    def classifier_free(pipe, samples, latents, guidance):
        return kontext(pipe, samples, latents, 1.0, true_cfg_scale=guidance, negative_prompt="")

    folder = generators.flux(tmp_path, guidance_embeds=False, kind=FluxKontextPipeline)
    model = loaded(FluxKontext, folder, t5_tokens=16, **SMALL)
    assert against_pipelines.difference(model, classifier_free, 2.5) < 1e-5


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_qwen_image_edit_equals_the_pipeline(qwen_folder, small, guidance):
    assert against_pipelines.difference(loaded(QwenImageEdit, qwen_folder, **SMALL), qwen, guidance) < 1e-5


@pytest.mark.parametrize("image", ["features", "latents"])
def test_wan_image_to_video_equals_the_pipeline(tmp_path, image):
    """2.1 sees the picture's features beside its latents."""
    model = loaded(WanImage, generators.wan(tmp_path, image=image), **CLIP)
    assert against_pipelines.difference(model, wan, 5.0, grid="native") < 1e-5


def test_wan_image_to_video_with_two_experts_equals_the_pipeline(tmp_path):
    model = loaded(WanImage, generators.wan(tmp_path, image="latents", experts=0.95), **CLIP)
    assert against_pipelines.difference(model, wan, 5.0, grid="native") < 1e-5


def test_wan_that_keeps_its_first_frame_equals_the_pipeline(tmp_path):
    """As 2.2-5B does; the frame has no gradient."""
    model = loaded(WanImage, generators.wan(tmp_path, image="latents", expand_timesteps=True), **CLIP)
    assert against_pipelines.difference(model, wan, 5.0, grid="native") < 1e-5
    against_pipelines.keeps_its_first_frame(model)


def test_kontext_is_trained_and_its_pipeline_draws_with_the_lora(kontext_folder, tmp_path):
    block = f"{{kind: flux_kontext, model: {kontext_folder}, pixels: 24, lora: 4, t5_tokens: 16}}"
    against_pipelines.trains_a_lora(tmp_path, block, FluxKontextPipeline.from_pretrained(kontext_folder), kontext, guidance=2.5)


def test_kontext_is_trained_whole(kontext_folder, tmp_path):
    block = f"{{kind: flux_kontext, model: {kontext_folder}, pixels: 24, lora: 0, t5_tokens: 16}}"
    against_pipelines.trains_whole(tmp_path, block, kontext_folder, guidance=2.5)


def test_qwen_image_edit_is_trained_and_its_pipeline_draws_with_the_lora(qwen_folder, tmp_path, small):
    block = f"{{kind: qwen_image_edit, model: {qwen_folder}, pixels: 24, lora: 4}}"
    against_pipelines.trains_a_lora(tmp_path, block, EDIT.from_pretrained(qwen_folder), qwen, guidance=4.0)


def test_qwen_image_edit_is_trained_whole(qwen_folder, tmp_path):
    against_pipelines.trains_whole(tmp_path, f"{{kind: qwen_image_edit, model: {qwen_folder}, pixels: 24, lora: 0}}", qwen_folder)


def test_wan_image_to_video_is_trained_and_its_pipeline_draws_with_the_lora(tmp_path):
    folder = generators.wan(tmp_path / "model", image="features")
    block = f"{{kind: wan_image, model: {folder}, pixels: 16, width: 32, frames: 5, lora: 4}}"
    pipe = WanImageToVideoPipeline.from_pretrained(folder)
    against_pipelines.trains_a_lora(tmp_path, block, pipe, wan, guidance=5.0, grid="native")


def test_wan_image_to_video_is_trained_whole(tmp_path):
    folder = generators.wan(tmp_path / "model", image="latents")
    block = f"{{kind: wan_image, model: {folder}, pixels: 16, width: 32, frames: 5, lora: 0}}"
    against_pipelines.trains_whole(tmp_path, block, folder)


def test_the_condition_belongs_to_the_picture_and_is_made_once_for_each(kontext_folder, monkeypatch):
    model = loaded(FluxKontext, kontext_folder, t5_tokens=16, **SMALL)
    calls, encode = [], model.encode_sources
    monkeypatch.setattr(model, "encode_sources", lambda prompt, sources: (calls.append(prompt), encode(prompt, sources))[1])
    one, two, _ = against_pipelines.edits()
    again = Sample(id="again", prompt=one.prompt, visuals=one.visuals)
    other = Sample(id="other", prompt=one.prompt, visuals=two.visuals)
    table = Embeddings(model, [one, again, other])
    assert calls == [one.prompt, one.prompt], "nothing is encoded without a prompt where nobody asks for it"
    first, same, different = (table([sample])["source"] for sample in (one, again, other))
    assert torch.equal(first, same) and not torch.equal(first, different)
    assert torch.equal(table.null([other])["source"], different)
    assert not torch.equal(table.null([other])["tokens"], table([other])["tokens"])
    assert calls == [one.prompt, one.prompt, ""]


def test_a_rollout_is_judged_by_what_was_made_and_still_holds_its_source(kontext_folder):
    model: Generator = loaded(FluxKontext, kontext_folder, t5_tokens=16, **SMALL)
    samples = against_pipelines.edits()[:2]
    table = Embeddings(model, samples)

    def bind(asked):
        return lambda x, s, policy="train": model.velocity(x, s, {**table(asked), "guidance": torch.full_like(s, 2.5)})

    sampler = Sampler.from_tree({"kernel": "flow_sde", "steps": 2, "guidance": 2.5})
    plan = sampler.plan(sampler.sigmas({"shift": 1.0}), 0, 0)
    rollouts = collect(bind, model.decode, plan, model.shape(), samples, Noise(0), epoch=0, size=2, micro_batch=4).rollouts
    for rollout in rollouts:
        assert rollout.visual is rollout.made
        assert rollout.sample.visuals[0] in (samples[0].visuals[0], samples[1].visuals[0])


def test_a_sample_without_a_picture_is_refused(kontext_folder):
    model = loaded(FluxKontext, kontext_folder, t5_tokens=16, **SMALL)
    with pytest.raises(DataError, match="row 3: has no picture, but the generator starts from pictures"):
        Embeddings(model, [Sample(id="row 3", prompt="make it blue")])
