"""An epoch of Flow-GRPO by `vlreward align`, by flow_grpo and by Flow-Factory: the same SD3-shaped model, prompts, group size and steps.

    python scripts/bench_flow.py                                    # 31M parameters on the CPU, guidance 4.5
    python scripts/bench_flow.py --peer ../flow_grpo --json ratios.json
    python scripts/bench_flow.py --layers 24 --width 1536 --latents 64 --texts 1024 --micro-batch 8 --device cuda    # SD3.5-M's shape

Weights are random. Each side runs in a process of its own, for which an epoch of one micro-batch warms up. Both peers are the sequences of
forward and backward passes that their trainers consist of (scripts/train_sd3.py of yifan123/flow_grpo; trainers/grpo.py and
models/stable_diffusion/sd3_5.py of X-GenGroup/Flow-Factory), since the trainers themselves ask for GPUs and a model from the Hub. With
`--peer` a checkout of flow_grpo samples and scores by its own functions. flow_grpo encodes the prompts of every batch anew;
Flow-Factory encodes them once, and sends a gradient through both halves of the guidance.

`--micro-batch` counts a peer's pictures. Of ours as many go through the network together as fill the same memory: under guidance twice as
many, since the unconditional half, which gets no gradient, is not in the update (`--own-micro-batch` asks for another number). Ours takes
the update's gradient while it samples (`optim.backward`), which no peer does; `--own-backward after` makes an update of its own.
What is counted as the update are then the backward passes.

Seconds are processor time of one thread on a CPU, so that a busy machine changes little, and wall time on a GPU. Ratios are the faster
peer's seconds by ours; the memory's is ours by the smaller peer's, peaks over what the loaded model takes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlreward.rewards.base import Reward
from vlreward.run import quiet

PEERS = ("flow_grpo", "flow_factory")
SEED = 1
NOISE, CLIP, RANK = 0.7, 1e-4, 32
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def build(options: argparse.Namespace, folder: Path) -> None:
    """A random pipeline of SD3's shape with two text encoders."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
    from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    torch.manual_seed(SEED)
    words = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=options.texts)
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=256, intermediate_size=1024, projection_dim=256, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=options.texts, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    encoders = [CLIPTextModelWithProjection(text) for _ in range(2)]
    transformer = SD3Transformer2DModel(
        sample_size=options.latents, patch_size=2, in_channels=16, out_channels=16, num_layers=options.layers, attention_head_dim=64,
        num_attention_heads=options.width // 64, joint_attention_dim=512, caption_projection_dim=options.width,
        pooled_projection_dim=512, pos_embed_max_size=max(options.latents // 2, 16), qk_norm="rms_norm",
    )  # fmt: skip
    sizes: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4, "block_out_channels": (16,) * 4,
    }  # fmt: skip
    vae = AutoencoderKL(
        **sizes, layers_per_block=1, latent_channels=16, norm_num_groups=8, mid_block_add_attention=False, use_quant_conv=False,
        use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5,
    )  # fmt: skip
    none: dict[str, Any] = {"text_encoder_3": None, "tokenizer_3": None}
    StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae, text_encoder=encoders[0],
        tokenizer=tokenizer, text_encoder_2=encoders[1], tokenizer_2=tokenizer, **none,
    ).save_pretrained(folder)  # fmt: skip
    count = sum(weight.numel() for weight in transformer.parameters())
    print(f"transformer of {count / 1e6:.0f}M parameters, {(options.latents // 2) ** 2} picture and {options.texts} text tokens")


def prompts(options: argparse.Namespace) -> list[str]:
    return [f"prompt {LETTERS[i % 26]} {LETTERS[i // 26 % 26]}" for i in range(options.groups)]


@dataclass(kw_only=True)
class Brightness(Reward):
    """Mean of all pixels; random pictures differ in it. In [0, 1]."""

    needs = ("visual",)

    def one(self, rollout: Any) -> float:
        return brightness(rollout.visual.tensor[None]).item()


def brightness(pictures: Any) -> Any:
    """[B]"""
    return pictures.float().mean((1, 2, 3))


class Clock:
    """Seconds by stage: processor time on a CPU, wall time on a GPU."""

    def __init__(self, device: str):
        self.cuda, self.spent = device == "cuda", {"rollout": 0.0, "update": 0.0, "total": 0.0}

    def now(self) -> float:
        if not self.cuda:
            return time.process_time()
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = self.now()
        yield
        self.spent[stage] += self.now() - start


def ours(options: argparse.Namespace) -> Callable[[int, Clock], None]:
    """One epoch of the trainer of `vlreward align`."""
    from vlreward.config import parse
    from vlreward.flow.config import Align
    from vlreward.flow.trainer import Trainer
    from vlreward.flow.while_sampling import RolloutGradients
    from vlreward.run import RunFolder
    from vlreward.types import Sample

    def trainer(groups: int) -> Trainer:
        tree = {
            "run": {"name": f"bench-{groups}", "seed": SEED, "folder": str(options.folder / "runs")},
            "data": {"kind": "tiny", "task": "objects", "count": 1},
            "generator": {
                "kind": "sd3", "model": str(options.folder / "model"), "pixels": options.latents * 8, "lora": RANK, "t5_tokens": 0,
            },
            "sampler": {"kernel": "flow_sde", "noise": NOISE, "steps": options.steps, "guidance": options.guidance, "grid": "native"},
            "group": {"size": options.size, "groups": groups, "micro_batch": options.micro_batch},
            "rewards": [{"kind": f"{Path(__file__).resolve()}:Brightness"}],
            "advantage": {"kind": "group", "clip": 5.0},
            "objective": {"kind": "flow_grpo", "clip": CLIP, "beta": options.beta},
            "optim": {"lr": 3e-4, "epochs": 8, "backward": options.own_backward},
            "device": options.device,
        }  # fmt: skip
        config = parse(Align, tree)
        folder = RunFolder.open(config.run, "align", config, fresh=True)
        return Trainer(config, folder, [Sample(id=p, prompt=p) for p in prompts(options)], [], options.device)

    made, follow = trainer(options.groups), RolloutGradients.follow

    def epoch(groups: int, clock: Clock) -> None:
        stages = {"rollout": "rollout", "reward": "rollout", "update": "update"}
        vars(made)["timed"] = lambda stage, figures: clock(stages[stage])

        def followed(*args: Any) -> None:
            """A backward pass on the way is part of the update."""
            before = clock.spent["update"]
            with clock("update"):
                follow(*args)
            clock.spent["rollout"] -= clock.spent["update"] - before

        RolloutGradients.follow = followed  # type: ignore[method-assign]
        made.config = replace(made.config, group=replace(made.config.group, groups=groups))
        made.step()

    return epoch


def peer(name: str, options: argparse.Namespace) -> Callable[[int, Clock], None]:
    """One epoch as the peer's trainer runs it."""
    import torch
    from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
    from peft import LoraConfig, get_peft_model

    from vlreward.flow.models.pipeline import ATTENTION

    torch.manual_seed(SEED)
    pipe: Any = StableDiffusion3Pipeline.from_pretrained(options.folder / "model", text_encoder_3=None, tokenizer_3=None)
    pipe.set_progress_bar_config(disable=True)
    pipe.to(options.device)
    for part in (pipe.transformer, pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
        part.requires_grad_(False)
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, init_lora_weights="gaussian", target_modules=[f"attn.{name}" for name in ATTENTION])
    net = pipe.transformer = get_peft_model(pipe.transformer, lora)
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=3e-4, weight_decay=1e-4)
    pipe.scheduler.set_timesteps(options.steps, device=options.device)
    sigmas, guided = pipe.scheduler.sigmas.tolist(), options.guidance > 1
    own = own_functions(options) if name == "flow_grpo" else None

    def encode(texts: list[str]) -> tuple[Any, Any]:
        with torch.no_grad():
            embeds, _, pooled, _ = pipe.encode_prompt(texts, None, None, do_classifier_free_guidance=False, max_sequence_length=0)
        return embeds, pooled

    null, cached = encode([""]), {text: encode([text]) for text in prompts(options)}

    def condition(texts: list[str]) -> tuple[Any, Any]:
        if name == "flow_grpo":
            return encode(texts)
        return tuple(torch.cat([cached[text][k] for text in texts]) for k in (0, 1))  # type: ignore[return-value]

    def velocity(x: Any, k: int, embeds: Any, pooled: Any) -> Any:
        times = 2 if guided else 1
        if guided:
            embeds, pooled = (torch.cat([none.expand_as(some), some]) for none, some in zip(null, (embeds, pooled), strict=True))
        s = torch.full((len(x) * times,), sigmas[k] * 1000, device=x.device)
        v = net(
            hidden_states=torch.cat([x] * times), timestep=s, encoder_hidden_states=embeds, pooled_projections=pooled, return_dict=False
        )[0]
        if not guided:
            return v
        without, with_text = v.chunk(2)
        if name == "flow_grpo":
            without = without.detach()
        return without + options.guidance * (with_text - without)

    def step(v: Any, x: Any, k: int, after: Any = None) -> tuple[Any, Any, Any, Any]:
        if own:
            return own[1](pipe.scheduler, v, pipe.scheduler.timesteps[k].repeat(len(x)), x, prev_sample=after, noise_level=NOISE)
        s, s_next = sigmas[k], sigmas[k + 1]
        spread = (s / (1 - (sigmas[1] if s == 1 else s))) ** 0.5 * NOISE
        dt = s_next - s
        mean = x * (1 + spread**2 / (2 * s) * dt) + v * (1 + spread**2 * (1 - s) / (2 * s)) * dt
        std = spread * (-dt) ** 0.5
        after = mean + std * torch.randn_like(x) if after is None else after
        log_prob = -((after.detach() - mean) ** 2) / (2 * std**2) - torch.log(torch.tensor(std)) - 0.9189385
        return after, log_prob.mean((1, 2, 3)), mean, spread

    @torch.no_grad()
    def sample(texts: list[str]) -> dict[str, Any]:
        embeds, pooled = condition(texts)
        if own and guided:
            nulls = (none.expand_as(some) for none, some in zip(null, (embeds, pooled), strict=True))
            pictures, latents, logs = own[0](
                pipe, prompt_embeds=embeds, pooled_prompt_embeds=pooled, negative_prompt_embeds=next(nulls),
                negative_pooled_prompt_embeds=next(nulls), num_inference_steps=options.steps, guidance_scale=options.guidance,
                output_type="pt", height=options.latents * 8, width=options.latents * 8, noise_level=NOISE,
            )  # fmt: skip
        else:
            x = torch.randn(len(texts), 16, options.latents, options.latents, device=options.device)
            latents, logs = [x], []
            for k in range(options.steps):
                x, log_prob, *_ = step(velocity(x, k, embeds, pooled), x, k)
                latents.append(x)
                logs.append(log_prob)
            decoded = pipe.vae.decode(x / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor, return_dict=False)[0]
            pictures = (decoded / 2 + 0.5).clamp(0, 1)
        return {"x": torch.stack(latents, 1), "log": torch.stack(logs, 1), "on": (embeds, pooled), "reward": brightness(pictures)}

    def epoch(groups: int, clock: Clock) -> None:
        rows = [text for text in prompts(options)[:groups] for _ in range(options.size)]
        with clock("rollout"):
            net.eval()
            batches = [sample(rows[i : i + options.micro_batch]) for i in range(0, len(rows), options.micro_batch)]
            reward = torch.cat([batch["reward"] for batch in batches]).view(groups, options.size)
            advantage = ((reward - reward.mean(1, True)) / (reward.std(1, keepdim=True) + 1e-4)).flatten().split(options.micro_batch)
        with clock("update"):
            net.train()
            for batch, own_advantage in zip(batches, advantage, strict=True):
                for k in range(options.steps - 1):
                    x, after = batch["x"][:, k], batch["x"][:, k + 1]
                    _, log_prob, mean, spread = step(velocity(x, k, *batch["on"]), x, k, after)
                    ratio = (log_prob - batch["log"][:, k]).exp()
                    loss = torch.maximum(-own_advantage * ratio, -own_advantage * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
                    if options.beta:
                        with torch.no_grad(), net.disable_adapter():
                            _, _, base, _ = step(velocity(x, k, *batch["on"]), x, k, after)
                        loss = loss + options.beta * ((mean - base) ** 2 / (2 * spread**2)).mean()
                    (loss / len(batches) / (options.steps - 1)).backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return epoch


def own_functions(options: argparse.Namespace) -> tuple[Any, Any] | None:
    """The sampler and the step of a checkout of flow_grpo, where there is one and this machine can import it."""
    for path in options.peer:
        if (path / "flow_grpo" / "diffusers_patch").is_dir():
            sys.path.insert(0, str(path))
            try:
                from flow_grpo.diffusers_patch import sd3_pipeline_with_logprob as made  # type: ignore[import-not-found]
            except ImportError as error:
                print(f"{path} cannot be imported here ({error}); its sequence is run instead")
                return None
            return made.pipeline_with_logprob, made.sde_step_with_logprob
    return None


def child(options: argparse.Namespace) -> None:
    """Run one side and write what it took."""
    import torch

    torch.set_num_threads(1)
    if options.side == "vlreward":
        options.micro_batch = own_pictures(options)
    clock = Clock(options.device)
    epoch = ours(options) if options.side == "vlreward" else peer(options.side, options)
    before = held(options.device)
    epoch(max(1, options.micro_batch // options.size), Clock(options.device))
    with clock("total"):
        epoch(options.groups, clock)
    options.result.write_text(json.dumps(clock.spent | {"memory": peak(options.device) - before}))


def own_pictures(options: argparse.Namespace) -> int:
    """Of our micro-batch: as many rows in the network as a peer's, which has two a picture under guidance."""
    rows = options.micro_batch * (2 if options.guidance > 1 else 1)
    return options.own_micro_batch or min(rows, options.groups * options.size)


def held(device: str) -> float:
    """Bytes now."""
    if device == "cuda":
        import torch

        return float(torch.cuda.memory_allocated())
    return int(Path("/proc/self/statm").read_text().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))


def peak(device: str) -> float:
    """Bytes, the most so far."""
    if device == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def measure(side: str, options: argparse.Namespace) -> dict[str, float]:
    """What one epoch takes, run in a process of its own."""
    result = options.folder / f"{side}.json"
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--folder", str(options.folder), "--result", str(result)]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"})
    return json.loads(result.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, action="append", default=[], help="a checkout of flow_grpo")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--latents", type=int, default=16, help="a side")
    parser.add_argument("--texts", type=int, default=32, help="tokens of a prompt")
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--size", type=int, default=4, help="of a group")
    parser.add_argument("--micro-batch", type=int, default=4, help="pictures of a peer's micro-batch")
    parser.add_argument("--own-micro-batch", type=int, help="of ours; none: twice as many with guidance, which take the same memory")
    ways = ("while_sampling", "after")
    parser.add_argument("--own-backward", choices=ways, help="none: while sampling, unless --beta asks for a KL")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance", type=float, default=4.5)
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path)
    for inner in ("--side", "--folder", "--result"):
        parser.add_argument(inner, help=argparse.SUPPRESS, type=str if inner == "--side" else Path)
    options = parser.parse_args()
    options.own_backward = options.own_backward or ways[options.beta > 0]
    with quiet("transformers", "diffusers"), contextlib.ExitStack() as stack:
        if options.side:
            child(options)
            return
        place = stack.enter_context(tempfile.TemporaryDirectory())
        options.folder = Path(place)
        build(options, options.folder / "model")
        found: dict[str, list[dict[str, float]]] = {side: [] for side in ("vlreward", *PEERS)}
        for number in range(options.rounds):
            for side, rows in found.items():
                rows.append(measure(side, options))
                spent = rows[-1]
                pictures = options.groups * options.size
                each = ", ".join(f"{stage} {pictures / spent[stage]:.3f}" for stage in ("rollout", "update", "total"))
                print(f"round {number + 1} {side:13} pictures a second: {each}; memory {spent['memory'] / 1e6:.0f} MB", flush=True)
    stages = ("rollout", "update", "total", "memory")
    middle = {side: {stage: statistics.median(row[stage] for row in rows) for stage in stages} for side, rows in found.items()}
    best = {stage: min(middle[side][stage] for side in PEERS) for stage in stages}
    ratios = {f"{stage}_ratio": best[stage] / middle["vlreward"][stage] for stage in ("rollout", "update", "total")}
    ratios["memory_ratio"] = middle["vlreward"]["memory"] / best["memory"]
    print(", ".join(f"{name} {value:.2f}" for name, value in ratios.items()))
    for side in PEERS:
        print(f"beside {side}: " + ", ".join(f"{stage} {middle[side][stage] / middle['vlreward'][stage]:.2f}" for stage in stages[:3]))
    if options.json:
        options.json.write_text(json.dumps(ratios | {"sides": middle}, indent=1))


if __name__ == "__main__":
    main()
