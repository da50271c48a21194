"""FLUX.1 against its own pipeline, and one step of training."""

from pathlib import Path
from typing import Any

import against_pipelines
import generators
import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

from vlreward.flow.models.flux import Flux
from vlreward.flow.models.pipeline import pack, unpack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generators.flux(tmp_path_factory.mktemp("flux"))


def load(folder: Path, **more: Any) -> Flux:
    made = Flux(model=str(folder), pixels=24, lora=4, t5_tokens=16, **more)
    made.load("cpu")
    return made


def draw(pipe: Any, prompts: list[str], latents: torch.Tensor, guidance: float, **more: Any) -> torch.Tensor:
    return pipe(
        prompts, height=24, width=24, num_inference_steps=against_pipelines.STEPS, max_sequence_length=16, latents=pack(latents),
        output_type="pt", **({"guidance_scale": guidance} | more),
    ).images  # fmt: skip


@pytest.mark.parametrize("guidance", [1.0, 3.5])
def test_our_ode_with_embedded_guidance_equals_the_pipeline(folder, guidance):
    assert against_pipelines.difference(load(folder), draw, guidance) < 1e-5


def test_our_ode_with_classifier_free_guidance_equals_the_pipeline(tmp_path):
    """A network without a guidance input, as schnell is."""

    def classifier_free(pipe, prompts, latents, guidance):
        return draw(pipe, prompts, latents, 0.0, true_cfg_scale=guidance, negative_prompt=[""] * len(prompts))

    assert against_pipelines.difference(load(generators.flux(tmp_path, guidance_embeds=False)), classifier_free, 2.5) < 1e-5


def test_embedded_guidance_costs_one_forward_pass_and_matters(folder, monkeypatch):
    model = load(folder)
    sizes, forward = [], model.net.forward
    monkeypatch.setattr(model.net, "forward", lambda **more: (sizes.append(len(more["hidden_states"])), forward(**more))[1])
    latents = torch.randn(3, *model.shape())
    weak, strong = (against_pipelines.ours(model, against_pipelines.PROMPTS, latents, guidance) for guidance in (1.0, 6.0))
    assert set(sizes) == {3}
    assert (weak - strong).abs().max() > 1e-3


def test_packing_is_the_pipelines_and_comes_back():
    latents = torch.randn(2, 4, 6, 8)
    assert torch.equal(pack(latents), FluxPipeline._pack_latents(latents, 2, 4, 6, 8))
    assert torch.equal(unpack(pack(latents), 6, 8), latents)


@pytest.mark.parametrize("targets", ["attention", "linear"])
def test_a_lora_is_trained_and_the_pipeline_draws_with_it(folder, tmp_path, targets):
    block = f"{{kind: flux, model: {folder}, pixels: 24, lora: 4, t5_tokens: 16, targets: {targets}}}"
    against_pipelines.trains_a_lora(tmp_path, block, FluxPipeline.from_pretrained(folder), draw, guidance=3.5)


def test_the_whole_transformer_is_trained(folder, tmp_path):
    against_pipelines.trains_whole(tmp_path, f"{{kind: flux, model: {folder}, pixels: 24, lora: 0, t5_tokens: 16}}", folder, guidance=3.5)


def test_recomputing_activations_changes_no_gradient(folder):
    plain, thrifty = load(folder), load(folder, recompute=True)
    with torch.no_grad():
        for model in (plain, thrifty):
            for name, weight in model.net.named_parameters():
                if "lora_" in name:
                    weight.fill_(0.1)
    x, s = torch.randn(2, *plain.shape()), torch.tensor([0.3, 0.8])
    found = []
    for model in (plain, thrifty):
        condition = {**model.encode(against_pipelines.PROMPTS[:2]), "guidance": torch.full((2,), 3.5)}
        model.velocity(x, s, condition).square().mean().backward()
        found.append([weight.grad for weight in model.net.parameters() if weight.requires_grad])
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*found, strict=True))
