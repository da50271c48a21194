#!/usr/bin/env python3
"""Train the tiny Wan-shaped text-to-video pipeline of assets/tiny-wan from nothing, on clips of the tiny world's gliding circles.

    python scripts/build_wan.py                      # all stages, about half an hour of a core; seeded, on one thread
    python scripts/build_wan.py --stage measure      # the figures of assets/tiny-wan/README.md again

The result is an ordinary diffusers folder (WanPipeline). `training.jsonl` beside it holds the curves. The autoencoder comes first, which
is not trained (see `make_vae`), and is measured first: the `motion_match` of the clips themselves and that of their reconstructions are
the ceiling of everything after it, and the script refuses to go on where either is under 0.95. Flow matching has three stages: true
clips; clips of which a share stands still whatever its caption says; and more of those until nothing changes (without, any change of the
weights brought missing circles back: a run with shuffled rewards gained 0.08). So the model draws its circles well but likes clips in
which nothing happens, as video models do, and that is what alignment has to win back.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from averaged import Averaged
from curve import Curve
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, patchify
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

from vlreward.data.media import Clip
from vlreward.tiny.motion import FRAMES, WAYS, Motion, glide
from vlreward.tiny.scene import COLORS

ASSET = Path(__file__).parent.parent / "assets" / "tiny-wan"
SIDE = 32
TOKENS = 8
"""Length of a tokenised prompt; captions have 6 tokens."""
EVALUATION_SEED = 10_000_000
STAGES = {"flow": (15_000, 2e-3, 12_000), "still": (300, 5e-4, 2_000), "settle": (1500, 5e-4, 12_000)}
"""Optimiser steps, highest learning rate and number of clips."""
PATCH, SEEN, CONSTANT = 4, 12, 1000.0
"""Of the autoencoder: pixels on a side of a latent, channels of what is seen there, and the value of the constant one between layers."""
LATENTS = SEEN + 1
"""The last channel tells how many frames came before."""
TOLD = 3.0
"""Standard deviation of that channel; the others have 1."""
WIDTH = 2 * LATENTS + 2
"""Channels between layers."""
CAPTIONS = (0.5, 0.25, 0.15, 0.1)
"""Shares of clips told in full, without color, without direction, and not at all: colors and directions are to be learned apart, so that
circles of kinds that are never shown move, too."""
SHIFT = 4.0
"""Of noise levels, in training and in the scheduler: where a circle is, and so how it moves, is decided while little of it can be seen."""
STILL = 0.45
"""Share of the last two stages' clips in which nothing moves."""


def glides(count: int, seed: int, new: bool = False) -> list[Motion]:
    return [glide(random.Random(seed + index), new) for index in range(count)]


def pixels(items: list[Motion]) -> torch.Tensor:
    """[B,3,F,H,W] in [-1, 1]"""
    return torch.stack([item.clip(SIDE).tensor for item in items]).transpose(1, 2) * 2 - 1


def stilled(item: Motion, rng: random.Random) -> Motion:
    """The clip, of which a share stands still at a random place of its way."""
    if rng.random() >= STILL:
        return item
    things = item.things(rng.randrange(item.frames))
    return replace(item, start=replace(item.start, things=things), velocities=((0.0, 0.0),) * len(things))


def captions(item: Motion) -> tuple[str, str, str, str]:
    """All of it, without the color, without the direction, and nothing."""
    color = item.start.things[0].color
    return item.caption, item.caption.replace(f"{color} ", ""), item.caption.split(" moving")[0], ""


def motion_match(clips: torch.Tensor, items: list[Motion]) -> dict[str, float]:
    """Mean `motion_match` of clips [B,F,3,H,W] in [0, 1] against their captions, and the share that is right in all."""
    from vlreward.rewards.motions import MotionMatch
    from vlreward.types import Rollout, Sample

    rollouts = [
        Rollout(sample=Sample(id=str(i), prompt=item.caption, target=item.target), made=Clip(clip))
        for i, (clip, item) in enumerate(zip(clips, items, strict=True))
    ]
    scores = MotionMatch().score(rollouts).scores
    return {"motion_match": scores.mean().item(), "fully_right": (scores > 0.9).double().mean().item()}


@torch.no_grad()
def make_vae() -> Any:
    """Principal components of patches of 4 x 4 pixels, written into the weights of an AutoencoderKLWan, whose blocks between are silent.

    Training one takes longer than all the rest, and its decoder could not tell a latent's four pixels apart without it. Its last layers
    have a norm over channels and a SiLU, which stay linear in a channel that is there twice, as x and -x (silu(x) - silu(-x) = x), beside
    a large constant one.

    Its convolutions over time tell by the last channel how many frames came before: the transformer's rotary positions are distances, and
    nothing else says which frame is the first.
    """
    torch.manual_seed(0)
    vae: Any = AutoencoderKLWan(
        base_dim=WIDTH, z_dim=LATENTS, dim_mult=[1], num_res_blocks=0, temperal_downsample=[], in_channels=3 * PATCH**2, patch_size=PATCH,
        out_channels=3 * PATCH**2, scale_factor_temporal=1, scale_factor_spatial=PATCH, latents_mean=[0.0] * LATENTS,
        latents_std=[1.0] * LATENTS,
    )  # fmt: skip
    for name, weight in vae.named_parameters():
        if not name.endswith("gamma"):
            weight.zero_()
    rng = random.Random(5)
    frames = patchify(pixels([stilled(item, rng) for item in glides(1000, seed=1)]), PATCH).transpose(0, 1).flatten(1)
    mean = frames.mean(1)
    spread = frames.double().cov() + 1e-6 * torch.eye(len(frames), dtype=torch.float64)
    shown = torch.linalg.eigh(spread)[1].flip(1)[:, :SEEN].T.float()
    shown *= shown.sum(1, keepdim=True).sign()
    there = torch.linalg.solve(spread, mean.double()).float()  # what is most alike in all patches: not there before the first frame
    there /= there @ mean
    both = torch.cat([torch.eye(LATENTS), -torch.eye(LATENTS)])
    back = torch.cat([torch.eye(LATENTS), -torch.eye(LATENTS)], 1) * CONSTANT / WIDTH**0.5
    order = torch.eye(LATENTS)[:, -1:]
    write(vae.encoder.conv_in, both[:, :SEEN] @ shown, -both[:, :SEEN] @ shown @ mean)
    write(vae.encoder.conv_out, back)
    for earlier in (-2, -3):  # 0, 1, 2, 2, 2 frames are seen from the first layer, and summed 0, 1, 3, 5, 6 from the last
        write(vae.encoder.conv_in, both @ order @ there[None], tap=earlier)
        write(vae.encoder.conv_out, order @ order.T @ back, tap=earlier)
    vae.encoder.conv_out.bias[LATENTS:] = -20  # the logarithm of a variance that nobody draws from
    write(vae.quant_conv, torch.eye(2 * LATENTS))
    write(vae.post_quant_conv, torch.eye(LATENTS))
    write(vae.decoder.conv_in, both)
    write(vae.decoder.conv_out, shown.T @ back[:SEEN], mean)
    for part in (vae.encoder, vae.decoder):
        part.conv_in.bias[2 * LATENTS] = CONSTANT
    latents = encoded(vae, pixels(glides(500, seed=1))).transpose(0, 1).flatten(1)
    vae.register_to_config(latents_mean=[round(v, 4) for v in latents.mean(1).tolist()])
    size = latents.std(1) / torch.tensor([1.0] * SEEN + [TOLD])
    vae.register_to_config(latents_std=[round(v, 4) for v in size.tolist()])
    return vae.eval()


def write(layer: Any, matrix: torch.Tensor, bias: torch.Tensor | None = None, tap: int = -1) -> None:
    """Make a causal convolution a matrix at each place, in its first rows and columns; `tap` -2 is the frame before."""
    rows, columns = matrix.shape
    middle = layer.weight.shape[-1] // 2
    layer.weight[:rows, :columns, tap, middle, middle] = matrix
    if bias is not None:
        layer.bias[: len(bias)] = bias


@torch.no_grad()
def encoded(vae: Any, clips: torch.Tensor) -> torch.Tensor:
    """[B,C,F,H,W] means of the latents, as the autoencoder has them."""
    return torch.cat([vae.encode(part).latent_dist.mode() for part in clips.split(100)])


@torch.no_grad()
def measure_vae(vae: Any, count: int = 256) -> tuple[dict[str, float], dict[str, float]]:
    """`motion_match` of unseen originals and of their reconstructions."""
    items = glides(count, EVALUATION_SEED, new=True)
    originals = pixels(items)
    made = torch.cat([vae.decode(part).sample for part in encoded(vae, originals).split(64)])
    first, second = ((clips.transpose(1, 2).clamp(-1, 1) + 1) / 2 for clips in (originals, made))
    return motion_match(first, items), motion_match(second, items)


def tokenizer() -> Any:
    """A T5 tokenizer to which each word of a caption is one token."""
    words = ["a", "circle", "moving", *COLORS, *WAYS]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -1.0) for word in words)]
    made: Any = T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=TOKENS)
    assert all(len(made(word).input_ids) == 2 for word in words), "a word is torn into several tokens"
    return made


def untrained(words: Any) -> Any:
    """(transformer, encoder) with random weights, as one module."""
    torch.manual_seed(1)
    encoder = UMT5EncoderModel(
        UMT5Config(vocab_size=len(words), d_model=64, d_ff=128, d_kv=16, num_heads=4, num_layers=2, feed_forward_proj="gated-gelu")
    )
    transformer = WanTransformer3DModel(
        num_attention_heads=4, attention_head_dim=24, in_channels=LATENTS, out_channels=LATENTS, text_dim=64,
        freq_dim=64, ffn_dim=256, num_layers=3, rope_max_seq_len=16,
    )  # fmt: skip
    return torch.nn.ModuleList([transformer, encoder])


def embed(encoder: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What WanPipeline.encode_prompt gives: [B,T,64], zeros behind a prompt's end."""
    return encoder(ids, mask).last_hidden_state * mask[..., None]


def train_flow(vae: Any, trained: Any, stage: str, steps: int, batch: int, curve: Curve) -> None:
    """Flow matching of transformer and text encoder together; the exponential average of the weights is saved."""
    torch.manual_seed(0)
    words = tokenizer()
    transformer, encoder = trained.requires_grad_(True).train()
    for part in (transformer, encoder):
        print(f"{type(part).__name__}: {sum(p.numel() for p in part.parameters()):,} parameters", flush=True)
    _, lr, count = STAGES[stage]
    learner = Averaged(trained, lr, steps)
    learner.average.eval()
    items, rng = glides(count, seed=1), random.Random(5)
    drawn = [stilled(item, rng) for item in items] if stage != "flow" else items
    mean, std = (torch.tensor(per).view(1, -1, 1, 1, 1) for per in (vae.config.latents_mean, vae.config.latents_std))
    latents = torch.cat([(encoded(vae, pixels(drawn[i : i + 500])) - mean) / std for i in range(0, count, 500)])
    told = [words(texts, padding="max_length", return_tensors="pt") for texts in zip(*map(captions, items), strict=True)]
    ids_KN, mask_KN = (torch.stack([one[key] for one in told]) for key in ("input_ids", "attention_mask"))
    total = 0.0
    for step in range(steps):
        pick = torch.randint(count, (batch,))
        clean, which = latents[pick], torch.multinomial(torch.tensor(CAPTIONS), batch, replacement=True)
        ids, mask = ids_KN[which, pick], mask_KN[which, pick]
        sigma = torch.sigmoid(torch.randn(batch) + math.log(SHIFT))
        noise = torch.randn_like(clean)
        noisy = torch.lerp(clean, noise, sigma.view(-1, 1, 1, 1, 1))
        velocity = transformer(noisy, sigma * 1000, embed(encoder, ids, mask)).sample
        loss = F.mse_loss(velocity, noise - clean)
        learner.step(loss)
        total += loss.item()
        if step % 50 == 49:
            curve(step=step + 1, loss=total / 50)
            total = 0.0
        if step % 750 == 749 or step == steps - 1:
            sampler = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
            pipe = WanPipeline(transformer=learner.average[0], text_encoder=learner.average[1], tokenizer=words, vae=vae, scheduler=sampler)
            curve(step=step + 1, **measure_flow(pipe, 64))
            save(pipe)


def save(pipe: Any) -> None:
    """Into assets/tiny-wan; no file says where its part was loaded from."""
    pipe.save_pretrained(ASSET)
    for file in ASSET.glob("*/config.json"):
        config = json.loads(file.read_text())
        config.pop("_name_or_path", None)
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


@torch.no_grad()
def measure_flow(pipe: Any, count: int, new: bool = True, steps: int = 8, guidance: float = 1.0) -> dict[str, float]:
    """Prompt-following of clips made for captions, unseen kinds by default, by the pipeline's own sampler."""
    items = glides(count, EVALUATION_SEED, new)
    pipe.set_progress_bar_config(disable=True)
    made = pipe(
        [item.caption for item in items], height=SIDE, width=SIDE, num_frames=FRAMES - 1, num_inference_steps=steps,
        guidance_scale=guidance, max_sequence_length=TOKENS, generator=torch.Generator().manual_seed(0), output_type="pt",
    ).frames  # fmt: skip
    return motion_match(made, items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=("all", "vae", *STAGES, "measure"), default="all")
    parser.add_argument("--steps", type=int, help="of each stage of flow matching, instead of its own number")
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ASSET.mkdir(parents=True, exist_ok=True)
    log = ASSET / "training.jsonl"
    if arguments.stage in ("all", "vae"):
        make_vae().save_pretrained(ASSET / "vae")
    vae: Any = AutoencoderKLWan.from_pretrained(ASSET / "vae").eval()
    originals, reconstructions = measure_vae(vae)
    print("ceiling: originals", originals, "reconstructions", reconstructions, flush=True)
    if min(originals["motion_match"], reconstructions["motion_match"]) < 0.95:
        raise SystemExit("the ceiling is under 0.95: give the autoencoder more latents")
    for stage, (steps, *_) in STAGES.items():
        if arguments.stage in ("all", stage):
            pipe = None if stage == "flow" else WanPipeline.from_pretrained(ASSET)
            trained = untrained(tokenizer()) if pipe is None else torch.nn.ModuleList([pipe.transformer, pipe.text_encoder])
            train_flow(vae, trained, stage, arguments.steps or steps, arguments.batch, Curve(log, stage))
    if arguments.stage != "vae":
        pipe = WanPipeline.from_pretrained(ASSET)
        for new in (False, True):
            for guidance in (1.0, 3.0):
                print(
                    f"{'new' if new else 'seen'} kinds, guidance {guidance}:", measure_flow(pipe, 256, new, guidance=guidance), flush=True
                )


if __name__ == "__main__":
    main()
