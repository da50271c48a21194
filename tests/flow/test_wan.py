"""Wan text-to-video against its own pipeline, and one step of training."""

from pathlib import Path
from typing import Any

import against_pipelines
import generators
import pytest
import torch
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from safetensors.torch import load_file

from vlreward.data.media import Clip
from vlreward.errors import ConfigError
from vlreward.flow.collect import visual
from vlreward.flow.models.wan import Wan

FIELDS = "pixels: 16, width: 32, frames: 5, prompt_tokens: 24"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generators.wan(tmp_path_factory.mktemp("wan"))


def load(folder: Path, **more: Any) -> Wan:
    made = Wan(model=str(folder), **{"pixels": 16, "width": 32, "frames": 5, "prompt_tokens": 24, "lora": 4} | more)
    made.load("cpu")
    return made


def draw(pipe: Any, prompts: list[str], latents: torch.Tensor, guidance: float) -> torch.Tensor:
    return pipe(
        prompts, negative_prompt=[""] * len(prompts), guidance_scale=guidance, height=16, width=32, num_frames=5, latents=latents,
        num_inference_steps=against_pipelines.STEPS, max_sequence_length=24, output_type="pt",
    ).frames  # fmt: skip


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_our_ode_equals_the_pipeline(folder, guidance):
    assert against_pipelines.difference(load(folder), draw, guidance, grid="native") < 1e-5


def test_a_time_for_every_token_equals_the_pipeline(tmp_path):
    """As Wan 2.2-5B takes it."""
    folder = generators.wan(tmp_path, expand_timesteps=True)
    assert against_pipelines.difference(load(folder), draw, 5.0, grid="native") < 1e-5


def test_two_experts_equal_the_pipeline(tmp_path):
    """As Wan 2.2-A14B has them."""
    model = load(generators.wan(tmp_path, experts=0.95))
    assert against_pipelines.difference(model, draw, 5.0, grid="native") < 1e-5


def test_rows_on_both_sides_of_the_boundary_go_to_their_experts(tmp_path):
    model = load(generators.wan(tmp_path, experts=0.5))
    x, s = torch.randn(3, *model.shape()), torch.tensor([0.2, 0.5, 0.4])
    condition = model.encode(against_pipelines.PROMPTS)
    mixed = model.velocity(x, s, condition)
    for row in range(3):
        alone = model.velocity(x[row : row + 1], s[row : row + 1], {"tokens": condition["tokens"][row : row + 1]})
        assert torch.allclose(mixed[row], alone[0], atol=1e-5)
    mixed[1].sum().backward()
    moved = {name.split(".")[0] for name, w in model.net.named_parameters() if w.grad is not None and w.grad.abs().sum() > 0}
    assert moved == {"high"}


def test_an_expert_that_another_process_asks_for_computes_here_too_and_changes_nothing(tmp_path):
    """Weights in pieces are gathered, and divided gradients summed, by all processes or by none."""
    model = load(generators.wan(tmp_path, experts=0.5))
    net: Any = model.net
    assert net._no_split_modules == ["WanTransformerBlock"], "FSDP would gather both experts whole"
    x, s, condition = torch.randn(2, *model.shape()), torch.tensor([0.9, 0.8]), model.encode(["a", "b"])
    alone = model.velocity(x, s, condition)
    ran = []
    net.low.register_forward_hook(lambda *_: ran.append("low"))
    net.agree = lambda asked: [True, True]
    with torch.no_grad():
        assert torch.equal(model.velocity(x, s, condition), alone)
    assert not ran, "rollouts have whole weights, and processes may make different numbers of them"
    together = model.velocity(x, s, condition)
    assert torch.equal(together, alone)
    assert ran == ["low"]
    together.square().sum().backward()
    reached = {name.split(".")[0]: w.grad.abs().sum().item() for name, w in net.named_parameters() if w.requires_grad and "lora_B" in name}
    assert reached["low"] == 0 < reached["high"]


def test_a_lora_of_both_experts_is_trained_and_exported(tmp_path):
    folder = generators.wan(tmp_path / "model", experts=0.95)

    class Pipe(WanPipeline):
        def load_lora_weights(self, place, **more):
            super().load_lora_weights(place, **more)
            super().load_lora_weights(place / "transformer_2", load_into_transformer_2=True, **more)

    block = f"{{kind: wan, model: {folder}, lora: 4, {FIELDS}}}"
    against_pipelines.trains_a_lora(tmp_path, block, Pipe.from_pretrained(folder), draw, guidance=5.0, grid="native")


def test_both_experts_are_trained_whole(tmp_path):
    folder = generators.wan(tmp_path / "model", experts=0.95)
    run = against_pipelines.trains_whole(tmp_path, f"{{kind: wan, model: {folder}, lora: 0, {FIELDS}}}", folder, guidance=5.0)
    old, new = (load_file(place / "transformer_2" / "diffusion_pytorch_model.safetensors") for place in (folder, run.path / "transformer"))
    assert any(not torch.equal(old[key], new[key]) for key in old)


def test_a_clip_comes_out_frames_first_in_0_to_1_and_carries_gradient(folder):
    model = load(folder)
    assert model.shape() == (4, 3, 8, 16)
    x0 = torch.randn(2, *model.shape(), requires_grad=True)
    made = model.decode(x0)
    assert made.shape == (2, 5, 3, 16, 32)
    assert 0 <= made.min() < made.max() <= 1
    assert isinstance(visual(made[0]), Clip)
    made[0, -1].mean().backward()
    assert x0.grad is not None
    assert x0.grad[0].abs().sum() > 0


def test_the_usual_schedulers_shift_is_read(folder):
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

    model = load(folder)
    assert model.schedule(4) == {"shift": 5.0}
    model.pipe.scheduler = UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0)
    assert model.schedule(4) == {"shift": 3.0}


@pytest.mark.parametrize(("key", "value"), [("pixels", 18), ("width", 30), ("frames", 4)])
def test_sizes_that_do_not_fit_are_refused(folder, key, value):
    with pytest.raises(ConfigError, match=rf"generator\.{key}: is {value}, expected"):
        load(folder, **{key: value})


@pytest.mark.parametrize("targets", ["attention", "linear"])
def test_a_lora_is_trained_and_the_pipeline_draws_with_it(folder, tmp_path, targets):
    block = f"{{kind: wan, model: {folder}, lora: 4, targets: {targets}, {FIELDS}}}"
    against_pipelines.trains_a_lora(tmp_path, block, WanPipeline.from_pretrained(folder), draw, guidance=5.0, grid="native")


def test_the_whole_transformer_is_trained(folder, tmp_path):
    against_pipelines.trains_whole(tmp_path, f"{{kind: wan, model: {folder}, lora: 0, {FIELDS}}}", folder, guidance=5.0)
