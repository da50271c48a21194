"""Whole GRPO steps of plain TRL and of `vlreward train-vlm` on the same model, prompts, group size and seed, in turn.

    python scripts/bench_grpo.py                        # 5M parameters of Qwen2.5-VL's shape, prefix of 433 tokens, on the CPU
    python scripts/bench_grpo.py --shape 3b --pixels 896 --tokens 128 --prompts 1    # the true shape of Qwen2.5-VL-3B, on a GPU
    python scripts/bench_grpo.py --json ratios.json

Weights are random; every answer is as long as allowed. Each round runs each side in a process of its own and leaves the first step out.
Seconds are processor time of one thread on a CPU, so that a busy machine changes little, and wall time on a GPU. Ratios are TRL's by ours,
the memory's is ours by TRL's (peak over what the loaded model takes).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlreward.rewards.base import Reward

SHAPES = {
    "5m": {
        "text": {
            "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4,
            "vocab_size": 1024, "mrope": [4, 6, 6],
        },
        "vision": {"depth": 4, "hidden_size": 128, "intermediate_size": 344, "num_heads": 4, "fullatt_block_indexes": [3]},
    },
    "3b": {
        "text": {
            "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 2,
            "vocab_size": 151936, "mrope": [16, 24, 24],
        },
        "vision": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "fullatt_block_indexes": [7, 15, 23, 31]},
    },
}  # fmt: skip
"""Sizes of Qwen2.5-VL: a small one, and those of Qwen2.5-VL-3B-Instruct's config.json."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SEED = 1
LOGGED = ("loss", "grad_norm", "reward", "entropy", "kl")
STAGES = ("generate", "rollout", "update", "step")


@dataclass(kw_only=True)
class Evenness(Reward):
    """Share of characters with an even number; random answers differ in it. In [0, 1]."""

    needs = ("text",)

    def one(self, rollout: Any) -> float:
        return evenness(rollout.text)


def evenness(text: str) -> float:
    return sum(ord(letter) % 2 == 0 for letter in text) / max(1, len(text))


def build(shape: str, pixels: int, folder: Path, device: str) -> None:
    """A folder with a random model of that shape and a processor that leaves pictures of pixels x pixels as they are."""
    import torch
    import transformers as hf
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    words = hf.Qwen2TokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", additional_special_tokens=list(SPECIAL[1:])
    )
    number = words.convert_tokens_to_ids
    text = dict(SHAPES[shape]["text"])
    rope = {"rope_type": "default", "mrope_section": text.pop("mrope"), "rope_theta": 1e6}
    config = hf.Qwen2_5_VLConfig(
        text_config=text | {"rope_parameters": rope, "max_position_embeddings": 32768, "bos_token_id": None, "eos_token_id": None},
        vision_config=SHAPES[shape]["vision"] | {"patch_size": 14, "window_size": 112, "out_hidden_size": text["hidden_size"]},
        image_token_id=number("<|image_pad|>"), video_token_id=number("<|video_pad|>"), vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"), tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(SEED)
    with torch.device(device):
        model = hf.Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = hf.GenerationConfig(eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id)
    model.save_pretrained(folder)
    area = {"shortest_edge": pixels**2, "longest_edge": pixels**2}
    image, video = hf.Qwen2VLImageProcessor(size=area), hf.Qwen2VLVideoProcessor()
    hf.Qwen2_5_VLProcessor(image_processor=image, tokenizer=words, video_processor=video, chat_template=TEMPLATE).save_pretrained(folder)


def pictures(folder: Path, count: int, pixels: int) -> list[Path]:
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(SEED)
    places = [folder / f"{i}.png" for i in range(count)]
    for place in places:
        coarse = random.integers(0, 256, (pixels // 14, pixels // 14, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((pixels, pixels)).save(place)
    return places


def configuration(options: argparse.Namespace, data: Path) -> Any:
    from vlreward.config import parse
    from vlreward.vlm.config import TrainVLM

    tree = {
        "run": {"name": "bench", "seed": SEED, "folder": str(options.folder / f"runs-{os.getpid()}")},
        "data": {"path": str(data)},
        "policy": {"model": str(options.folder / "model"), "max_new_tokens": options.tokens, "bf16": options.device == "cuda"},
        "group": {"size": options.size, "prompts": options.prompts},
        "rewards": [{"kind": f"{__file__}:Evenness"}],
        "optim": {"lr": 1e-4, "steps": options.steps, "save_every": 10**6},
        "logged": 0,
        "device": options.device,
        "trl": {"beta": 0.04, "generation_kwargs": {"min_new_tokens": options.tokens}},
    }
    return parse(TrainVLM, tree)


def trainer(options: argparse.Namespace) -> Any:
    """One side's trainer on the same prompts in the same order."""
    from datasets import Dataset
    from PIL import Image
    from trl import GRPOTrainer

    from vlreward.run import RunFolder
    from vlreward.vlm.policy import read
    from vlreward.vlm.sampler import PromptSampler
    from vlreward.vlm.settings import grpo_config
    from vlreward.vlm.trainer import VLGRPOTrainer

    places = pictures(options.folder, options.prompts * options.steps, options.pixels)
    data = options.folder / "data.jsonl"
    questions = [f"What is to be seen in picture {i}?" for i in range(len(places))]
    data.write_text("".join(json.dumps({"prompt": q, "image": p.name}) + "\n" for q, p in zip(questions, places, strict=True)))
    config = configuration(options, data)
    policy, processor = read(config.policy.model, options.device)
    if options.side == "ours":
        return VLGRPOTrainer(config, RunFolder.open(config.run, "train-vlm", config), policy, processor, config.data.samples())
    order = list(dict.fromkeys(PromptSampler(len(places), options.prompts, 1, 1, options.steps, SEED)))
    rows = {"prompt": [[{"role": "user", "content": questions[i]}] for i in order], "image": [Image.open(places[i]) for i in order]}
    arguments = grpo_config(config, options.folder / "trl")
    arguments.shuffle_dataset = False

    def reward(completions: list, **_: Any) -> list[float]:
        return [evenness(completion[0]["content"]) for completion in completions]

    return GRPOTrainer(policy, reward, arguments, Dataset.from_dict(rows), processing_class=processor)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each stage and step, peak memory in bytes, and what was logged."""
    import torch
    from transformers import TrainerCallback

    torch.set_num_threads(1)
    on_gpu = options.device == "cuda"
    made = trainer(options)
    rows: list[dict[str, float]] = []

    def clock() -> float:
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() if on_gpu else time.process_time()

    def timed(name: str, call: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = clock()
            out = call(*args, **kwargs)
            rows[-1][name] = clock() - start
            return out

        return run

    class Steps(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            rows[-1]["begin"] = clock()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            rows[-1]["step"] = clock() - rows[-1]["begin"]
            rows[-1]["update"] = rows[-1]["step"] - rows[-1]["rollout"]
            rows.append({})

    made.add_callback(Steps())
    rows.append({})
    made._generate_single_turn = timed("generate", made._generate_single_turn)
    made._generate_and_score_completions = timed("rollout", made._generate_and_score_completions)
    before = torch.cuda.memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    made.train()
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    logged = [
        {name: row[name] for name in ("loss", "grad_norm", "reward", "entropy", "kl")} for row in made.state.log_history if "loss" in row
    ]
    return {"seconds": [{name: row[name] for name in STAGES} for row in rows if "step" in row], "memory": peak - before, "logged": logged}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="5m")
    parser.add_argument("--pixels", type=int, default=560, help="side of the pictures; 28 pixels are a token's side")
    parser.add_argument("--size", type=int, default=8, help="answers to a prompt")
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=("ours", "trl"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    import torch

    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.side:
        print(json.dumps(measure(options)))
        return
    found: dict[str, list[dict[str, Any]]] = {"trl": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        build(options.shape, options.pixels, Path(folder) / "model", options.device)
        for _ in range(options.rounds):
            for side, results in found.items():
                command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--folder", folder]
                environment = os.environ | {"OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
                out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
                results.append(json.loads(out.splitlines()[-1]))
    report(found, options)


def report(found: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    def seconds(side: str, stage: str) -> float:
        return statistics.median(row[stage] for result in found[side] for row in result["seconds"][1:])

    ratios = {f"{stage}_ratio": seconds("trl", stage) / seconds("ours", stage) for stage in STAGES}
    ratios["memory_ratio"] = min(r["memory"] for r in found["ours"]) / max(1, min(r["memory"] for r in found["trl"]))
    pairs = list(zip(found["ours"][0]["logged"], found["trl"][0]["logged"], strict=True))
    for name in LOGGED:
        ratios[f"{name}_difference"] = max(abs(a[name] - b[name]) for a, b in pairs)
    print(f"{options.shape}: {options.prompts} prompts x {options.size} answers of {options.tokens} tokens, {options.device}")
    print(f"{'stage':10}{'TRL':>10}{'ours':>10}{'ratio':>8}")
    for stage in STAGES:
        print(f"{stage:10}{seconds('trl', stage):>9.2f}s{seconds('ours', stage):>9.2f}s{ratios[f'{stage}_ratio']:>7.2f}x")
    for name, value in ratios.items():
        if not name.endswith("_ratio") or name == "memory_ratio":
            print(f"{name}: {value:.3g}")
    if options.json:
        options.json.write_text(json.dumps(ratios, indent=1) + "\n")


if __name__ == "__main__":
    main()
