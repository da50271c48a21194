"""A Stable-Diffusion-3 pipeline with random weights, small enough that a whole run takes a second."""

from __future__ import annotations

import json
from pathlib import Path

import generators
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from vlreward.flow.models.sd3 import StableDiffusion3

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "random-sd3"
    torch.manual_seed(0)
    words = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=24)
    encoders = [
        CLIPTextModelWithProjection(
            CLIPTextConfig(vocab_size=len(words), hidden_size=16, intermediate_size=32, projection_dim=8, num_hidden_layers=2,
                           num_attention_heads=2, max_position_embeddings=24, bos_token_id=0, eos_token_id=1, pad_token_id=1)
        )
        for _ in range(2)
    ]  # fmt: skip
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=16, pos_embed_max_size=4, qk_norm="rms_norm",
    )  # fmt: skip
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(8, 8),
        layers_per_block=1, latent_channels=4, norm_num_groups=4, mid_block_add_attention=False, use_quant_conv=False,
        use_post_quant_conv=False, shift_factor=0.1, scaling_factor=0.8,
    )  # fmt: skip
    StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae, text_encoder=encoders[0],
        tokenizer=tokenizer, text_encoder_2=encoders[1], tokenizer_2=tokenizer, text_encoder_3=None, tokenizer_3=None,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def flux2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generators.flux2(tmp_path_factory.mktemp("flux2"))


@pytest.fixture(scope="session")
def klein(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generators.flux2_klein(tmp_path_factory.mktemp("klein"))


@pytest.fixture
def generator(pipeline_folder: Path) -> StableDiffusion3:
    """Loaded, with a LoRA of rank 4 that starts as the base."""
    torch.manual_seed(1)
    made = StableDiffusion3(model=str(pipeline_folder), pixels=16, lora=4, t5_tokens=0)
    made.load("cpu")
    return made


@pytest.fixture(scope="session")
def given_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve prompts with five random pictures each, one of whose halves is better."""
    folder = tmp_path_factory.mktemp("pictures")
    rows, generator = [], torch.Generator().manual_seed(0)
    for number in range(60):
        pixels = (255 * torch.rand(16, 16, 3, generator=generator)).byte()
        Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
        regions = [{"box": [0, 0, 0.5, 1], "score": number % 3}, {"box": [0.5, 0, 1, 1], "score": number % 2}]
        prompt = "abcdefghijkl"[number // 5]
        rows.append({"prompt": prompt, "image": f"{number}.png", "target": {"score": number % 7, "regions": regions}})
    (folder / "given.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "given.jsonl"


@pytest.fixture
def config_text(pipeline_folder: Path, tmp_path: Path) -> str:
    """A run of seconds."""
    return f"""
run: {{name: small, seed: 3, folder: {tmp_path / "runs"}}}
data: {{kind: tiny, task: objects, count: 12}}
eval: {{data: {{kind: tiny, task: objects, count: 6, holdout: true}}, steps: 3, batch: 4}}
generator: {{kind: sd3, model: {pipeline_folder}, pixels: 16, lora: 4, t5_tokens: 0}}
sampler: {{kernel: flow_sde, noise: 0.7, steps: 4, grid: linspace}}
group: {{size: 4, groups: 3, micro_batch: 6}}
rewards: [{{kind: tests/flow/brightness.py:Brightness}}]
advantage: {{kind: group, clip: 5.0}}
objective: {{kind: flow_grpo, clip: 1.0e-3, beta: 0.01}}
optim: {{lr: 1.0e-3, epochs: 4, updates: 2, ema: 0.5}}
save_every: 1
"""
