"""Untrained text-to-picture and text-to-video pipelines of the real classes, small enough for tests, and what each adapter is put to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from vlreward.config import load
from vlreward.flow import evaluate
from vlreward.flow.config import Align
from vlreward.flow.math import Grid, sigmas
from vlreward.flow.models.base import Embeddings, Generator, guided
from vlreward.flow.rollout import rollout
from vlreward.flow.train import train
from vlreward.run import RunFolder

PROMPTS = ["a red circle", "two blue squares", "a green cross above a cyan circle"]
STEPS = 4
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
Draw = Callable[[Any, list[str], torch.Tensor, float], torch.Tensor]
"""A pipeline's own `__call__`: (pipe, prompts, latents [B,*], guidance) -> pictures or clips in [0, 1], `STEPS` steps."""


@cache
def clip_tokenizer() -> CLIPTokenizer:
    words = ["<|startoftext|>", "<|endoftext|>", *BYTES, *(f"{letter}</w>" for letter in BYTES)]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=24)


def clip_text(**more: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=2 + 2 * len(BYTES), hidden_size=16, intermediate_size=32, projection_dim=8, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=24, bos_token_id=0, eos_token_id=1, pad_token_id=1, **more,
    )  # fmt: skip


@cache
def t5_tokenizer() -> T5Tokenizer:
    letters = [chr(code) for code in range(33, 127)]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in letters)]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=64)


def t5_config(**more: Any) -> dict[str, Any]:
    return {"vocab_size": 128, "d_model": 16, "d_ff": 32, "d_kv": 8, "num_heads": 2, "num_layers": 2, "feed_forward_proj": "gated-gelu"} | more


def autoencoder(**more: Any) -> AutoencoderKL:
    """Halves each side, 4 channels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(8, 8),
        layers_per_block=1, latent_channels=4, norm_num_groups=4, mid_block_add_attention=False, use_quant_conv=False,
        use_post_quant_conv=False, shift_factor=0.1, scaling_factor=0.8, **more,
    )  # fmt: skip


def flux(folder: Path, guidance_embeds: bool = True) -> Path:
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
    from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

    torch.manual_seed(0)
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=autoencoder(),
        text_encoder=CLIPTextModel(clip_text()),
        tokenizer=clip_tokenizer(),
        text_encoder_2=T5EncoderModel(T5Config(**t5_config())),
        tokenizer_2=t5_tokenizer(),
        transformer=FluxTransformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16,
            pooled_projection_dim=16, guidance_embeds=guidance_embeds, axes_dims_rope=(4, 6, 6),
        ),
    ).save_pretrained(folder)  # fmt: skip
    return folder


@torch.no_grad()
def ours(generator: Generator, prompts: Sequence[str], latents: torch.Tensor, guidance: float, grid: Grid = "linspace") -> torch.Tensor:
    """Pictures of our denoising loop from this noise."""
    embeddings = Embeddings(generator, prompts, batch=2)
    condition, null = embeddings(prompts), embeddings([""] * len(prompts))
    plan = evaluate.plan(sigmas(STEPS, grid=grid, **generator.schedule()), guidance)
    velocity = lambda x, s, policy="train": guided(generator, x, s, condition, null, guidance)  # noqa: E731
    return generator.decode(rollout(velocity, plan, latents, lambda i: torch.empty(0)).x0)


def difference(generator: Any, draw: Draw, guidance: float) -> float:
    """The largest between a pixel of ours and one of the pipeline's own, from the same noise."""
    latents = torch.randn(len(PROMPTS), *generator.shape(), generator=torch.Generator().manual_seed(1))
    generator.pipe.set_progress_bar_config(disable=True)
    mine = ours(generator, PROMPTS, latents.clone(), guidance)
    theirs = draw(generator.pipe, PROMPTS, latents, guidance)
    assert mine.shape == theirs.shape
    assert mine.std() > 0.01, "a constant picture proves nothing"
    return (mine - theirs).abs().max().item()


def align(tmp_path: Path, generator: str, guidance: float = 1.0) -> tuple[Align, RunFolder]:
    """One epoch of Flow-GRPO by the ordinary trainer, with an evaluation before and after."""
    path = tmp_path / "run.yaml"
    path.write_text(f"""
run: {{name: small, seed: 3, folder: {tmp_path / "runs"}}}
data: {{kind: tiny, task: objects, count: 4}}
eval: {{data: {{kind: tiny, task: objects, count: 3, holdout: true}}, steps: {STEPS}, batch: 3}}
generator: {generator}
sampler: {{kernel: flow_sde, noise: 0.7, steps: 3, grid: linspace, guidance: {guidance}}}
group: {{size: 2, groups: 2, micro_batch: 2}}
rewards: [{{kind: tests/flow/brightness.py:Brightness}}]
advantage: {{kind: group, clip: 5.0}}
objective: {{kind: flow_grpo, clip: 1.0e-3, beta: 0.01}}
optim: {{lr: 0.3, epochs: 1}}
""")
    config, _ = load(path, [], Align)
    folder = train(config)
    [row] = folder.read("metrics.jsonl")
    assert (row["ratio/deviation"], row["skipped"]) == (0, 0)
    assert row["grad_norm"] > 0
    return config, folder


def trains_a_lora(tmp_path: Path, generator: str, pipe: Any, draw: Draw, guidance: float = 1.0) -> None:
    """The pipeline by itself draws the run's last evaluation with the LoRA that the run exported."""
    config, folder = align(tmp_path, generator, guidance)
    assert config.eval is not None
    samples = config.eval.data.samples()
    latents = evaluate.start(config.generator.shape(), samples, config.eval.seed)
    pipe.set_progress_bar_config(disable=True)
    drawn = []
    for phase in ("before", "after"):
        if phase == "after":
            pipe.load_lora_weights(folder.path / "lora")
        drawn.append(draw(pipe, [sample.prompt for sample in samples], latents.clone(), guidance).flatten(1).mean(1))
        wanted = torch.tensor([row["scores"]["Brightness"] for row in folder.read(f"evaluation_{phase}.jsonl")])
        assert (drawn[-1] - wanted).abs().max() < 1e-5
    assert (drawn[1] - drawn[0]).abs().max() > 1e-4, "the LoRA changed nothing"


def trains_whole(tmp_path: Path, generator: str, original: Path, guidance: float = 1.0) -> None:
    """The exported transformer has the original's weights, most of them changed."""
    _, folder = align(tmp_path, generator, guidance)
    [exported] = (folder.path / "transformer").glob("*.safetensors")
    [kept] = (original / "transformer").glob("*.safetensors")
    old, new = load_file(kept), load_file(exported)
    assert old.keys() == new.keys()
    assert sum(not torch.equal(old[key], new[key]) for key in old) > len(old) / 2
