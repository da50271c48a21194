#!/usr/bin/env python3
"""Train the tiny Qwen2.5-VL-shaped policy of assets/tiny-vlm from nothing, on questions about the tiny world.

    python scripts/build_vlm.py                      # both stages, about half an hour on a core
    python scripts/build_vlm.py --stage tight     # the second one again
    python scripts/build_vlm.py --stage measure      # the figures of assets/tiny-vlm/README.md again

The result is an ordinary Qwen2.5-VL folder with a tokenizer of its own, read by AutoProcessor and AutoModelForImageTextToText.
`training.jsonl` beside it holds the curve. Supervision has two stages: true answers, until the IoU of sampled held-out boxes reaches
`--stop`; then boxes drawn too tight, as hurried annotators draw them. So the policy finds objects but has learned its teachers' bias,
which is what reinforcement learning has to win back.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from curve import Curve
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from vlreward.data.media import Picture
from vlreward.tiny.scene import COLORS, SHAPES, Scene, crowd, scene
from vlreward.tiny.tasks import HOLDOUT, SIDE, make
from vlreward.types import Sample

ASSET = Path(__file__).parent.parent / "assets" / "tiny-vlm"
PATCH, MERGE = 12, 2
SHARES = {"grounding": 0.5, "alone": 0.24, "color": 0.1, "counting": 0.08, "relation": 0.08}
"""Of the supervised rows. 'alone' is grounding of the only object in the picture, without which training long ignores the picture."""
INITIAL = 0.08
"""Deviation of the initial weights: about 1 / sqrt(width), where the usual 0.02 leaves so narrow a model on a plateau."""
NEARNESS = 6.0
"""Pixels over which the initial embeddings of numbers lose their likeness."""
PROBED = 2
"""The layer of the language model whose visual tokens the probe reads."""
TIGHT = 0.7
"""Side of the boxes taught in the second stage, relative to the true ones."""
SPREAD = 1.5
"""Pixels: deviation of a number's label over its neighbours."""
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
SYSTEM = "Reply in <answer></answer>, a box as [x1, y1, x2, y2] in pixels."
CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n" + SYSTEM + "<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BOX = re.compile(r"<answer>\[(\d+), (\d+), (\d+), (\d+)\]</answer>")


def question(task: str, seed: int) -> tuple[Sample, Scene]:
    """A training sample and the scene behind it; the samples of the tiny world's tasks are the same as everywhere."""
    rng = random.Random(f"{task}/{seed}")
    if task == "alone":
        view = crowd(rng, 1)
        target = {"boxes": view.boxes(SIDE), "size": [SIDE, SIDE]}
        return Sample(id="", prompt=f"Where is the {view.things[0].label}?", visuals=(Picture(view.picture(SIDE)),), target=target), view
    draw = {"grounding": lambda: crowd(rng, rng.randint(2, 3)), "counting": lambda: crowd(rng, rng.randint(1, 4)),
            "color": lambda: scene(rng, max_things=1), "relation": lambda: crowd(rng, 2)}  # fmt: skip
    return make(task, seed), draw[task]()


def answer(sample: Sample) -> str:
    """The right answer in the words that the policy is taught."""
    if "boxes" in sample.target:
        return f"<answer>[{', '.join(str(round(value)) for value in sample.target['boxes'][0])}]</answer>"
    return f"<answer>{sample.target['answer']}</answer>"


def tokenizer(samples: Sequence[Sample]) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which every number, word and bracketing of an answer becomes one token."""
    words = Tokenizer(models.BPE())
    pieces = Regex(r"<answer>\[?|\]?</answer>|, |\d+| ?[A-Za-z]+\d?|\s+|.")
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    words.decoder = decoders.ByteLevel()
    corpus = ["system\nuser\nassistant\n", SYSTEM, ", ".join(map(str, range(SIDE + 1)))] * 50
    corpus += [f"{sample.prompt}\n{answer(sample)}" for sample in samples]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=640, show_progress=False, initial_alphabet=alphabet))
    words.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|im_end|>", pad_token="<|endoftext|>",
                                   additional_special_tokens=SPECIAL[1:], padding_side="left", model_max_length=2048)  # fmt: skip


def build(samples: Sequence[Sample]) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """Untrained model and its processor.

    A visual token knows where it is only by its rotary distance to the words before it. The usual base of 1e4 turns the width's
    frequencies by less than 0.01 over so small a picture, and attention starts blind to distance; hence the base of 30, the larger
    width section, and random query and key biases. Numbers begin with embeddings that are alike where their values are near.
    """
    words = tokenizer(samples)
    ids = {token: words.convert_tokens_to_ids(token) for token in SPECIAL}
    area = (PATCH * MERGE) ** 2
    size = {"shortest_edge": 4 * area, "longest_edge": 64 * area}
    picture = Qwen2VLImageProcessor(patch_size=PATCH, temporal_patch_size=2, merge_size=MERGE, size=size)
    video = Qwen2VLVideoProcessor(patch_size=PATCH, temporal_patch_size=2, merge_size=MERGE)
    processor = Qwen2_5_VLProcessor(image_processor=picture, tokenizer=words, video_processor=video, chat_template=CHAT_TEMPLATE)
    width = 128
    text = {
        "vocab_size": len(words), "hidden_size": width, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 2048, "bos_token_id": None, "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"], "initializer_range": INITIAL,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 5, 9], "rope_theta": 30.0},
    }  # fmt: skip
    vision = {
        "depth": 3, "hidden_size": 96, "intermediate_size": 256, "num_heads": 3, "patch_size": PATCH, "spatial_merge_size": MERGE,
        "temporal_patch_size": 2, "out_hidden_size": width, "window_size": 8 * PATCH * MERGE, "fullatt_block_indexes": [0, 1, 2],
        "initializer_range": INITIAL,
    }  # fmt: skip
    marks = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>", "vision_start_token_id": "<|vision_start|>",
             "vision_end_token_id": "<|vision_end|>"}  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True, initializer_range=INITIAL,
        **{name: ids[token] for name, token in marks.items()},
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    with torch.no_grad():
        numbers = torch.tensor([words.convert_tokens_to_ids(str(value)) for value in range(SIDE + 1)])
        phase = torch.arange(SIDE + 1)[:, None] * torch.randn(1, width // 2) / NEARNESS
        model.get_input_embeddings().weight[numbers] = INITIAL * 2**0.5 * torch.cat([phase.sin(), phase.cos()], 1)
        for layer in model.model.language_model.layers:
            layer.self_attn.q_proj.bias.normal_()
            layer.self_attn.k_proj.bias.normal_()
    model.generation_config = GenerationConfig(eos_token_id=ids["<|im_end|>"], pad_token_id=ids["<|endoftext|>"], do_sample=True)
    return model, processor


def prompts(processor: Qwen2_5_VLProcessor, samples: Sequence[Sample]) -> list[str]:
    """Chat-formatted questions, up to where the assistant speaks."""
    turns = [[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": sample.prompt}]}] for sample in samples]
    return processor.apply_chat_template(turns, add_generation_prompt=True)


def pictures(samples: Sequence[Sample]) -> list:
    return [visual.pil for sample in samples for visual in sample.visuals if isinstance(visual, Picture)]


def train(arguments: argparse.Namespace, curve: Curve, tight: bool = False) -> None:
    """Next-token prediction of the answers, and a probe (thrown away) that reads from visual tokens what stands there.

    Without the probe, 600 steps of 64 did not lift the IoU above that of a blind guess. `tight` is the second stage, which goes on
    from the saved model, needs no probe, and runs for `--tight-steps` at half the learning rate.
    """
    rng = random.Random(0)
    tasks = rng.choices(list(SHARES), list(SHARES.values()), k=arguments.pool)
    start = time.time()
    pool, views = zip(*(question(task, seed) for seed, task in enumerate(tasks)), strict=True)
    seen = torch.stack([what_tokens_show(view) for view in views])
    model, processor = load() if tight else build(pool)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters; {len(pool)} samples in {time.time() - start:.0f} s", flush=True)
    questions = prompts(processor, pool)
    taught = [too_tight(sample) for sample in pool] if tight else pool
    texts = [f"{question}{answer(sample)}<|im_end|>" for question, sample in zip(questions, taught, strict=True)]
    processor.tokenizer.padding_side = "right"
    probe = torch.nn.Linear(model.config.text_config.hidden_size, 5 + len(COLORS) + len(SHAPES))
    numbers = torch.tensor([processor.tokenizer.convert_tokens_to_ids(str(value)) for value in range(SIDE + 1)])
    lr, steps = (arguments.lr / 2, arguments.tight_steps) if tight else (arguments.lr, arguments.steps)
    optimizer = torch.optim.AdamW([*model.parameters(), *probe.parameters()], lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 100))
    turn = processor.tokenizer.encode("assistant\n")
    total, aside, count = 0.0, 0.0, 0
    for step in range(1, steps + 1):
        rows = rng.sample(range(len(pool)), arguments.batch)
        inputs = processor(text=[texts[i] for i in rows], images=pictures([pool[i] for i in rows]), padding=True, return_tensors="pt")
        labels = inputs["input_ids"].clone()
        for row, ids in zip(labels, inputs["input_ids"].tolist(), strict=True):
            row[: _after(ids, turn)] = -100
        labels[inputs["attention_mask"] == 0] = -100
        output = model(**inputs, output_hidden_states=True)
        spoken = labels[:, 1:] != -100
        loss = answer_loss(output.logits[:, :-1][spoken], labels[:, 1:][spoken], numbers)
        visual = output.hidden_states[PROBED][inputs["input_ids"] == model.config.image_token_id]
        looking = probe_loss(probe(visual), seen[rows].flatten(0, 1))
        optimizer.zero_grad()
        (loss if tight else loss + looking).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total, aside, count = total + loss.item(), aside + looking.item(), count + 1
        if step % 50 == 0:
            curve(step=step, loss=total / count, probe=aside / count)
            total, aside, count = 0.0, 0.0, 0
        if step % arguments.every == 0:
            processor.tokenizer.padding_side = "left"
            figures = measure(model, processor, 256)
            curve(step=step, **figures)
            save(model, processor)
            processor.tokenizer.padding_side = "right"
            if not tight and figures["sampled_iou"] >= arguments.stop:
                return


def too_tight(sample: Sample) -> Sample:
    """The sample with its box shrunk around the middle; the sample itself where it asks for none."""
    if "boxes" not in sample.target:
        return sample
    left, top, right, bottom = sample.target["boxes"][0]
    dx, dy = (right - left) * (1 - TIGHT) / 2, (bottom - top) * (1 - TIGHT) / 2
    return replace(sample, target={**sample.target, "boxes": [[left + dx, top + dy, right - dx, bottom - dy]]})


def load() -> tuple[Any, Any]:
    """The saved model and processor."""
    return AutoModelForImageTextToText.from_pretrained(ASSET, dtype=torch.float32), AutoProcessor.from_pretrained(ASSET)


def save(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor) -> None:
    """Into assets/tiny-vlm, readable by all."""
    model.save_pretrained(ASSET)
    processor.save_pretrained(ASSET)
    (ASSET / "model.safetensors").chmod(0o644)


def what_tokens_show(view: Scene) -> torch.Tensor:
    """[tokens, 7] of the thing that covers most of each visual token: whether there is one, box (relative, xyxy), color, shape."""
    cells = SIDE // (PATCH * MERGE)
    rows = []
    for row in range(cells):
        for column in range(cells):
            cell = [column / cells, row / cells, (column + 1) / cells, (row + 1) / cells]
            covered = [_overlap(thing.box(1, 1), cell) for thing in view.things]
            best = max(range(len(covered)), key=lambda i: covered[i])
            thing = view.things[best]
            found = covered[best] > 0.1 / cells**2
            rows.append([float(found), *thing.box(1, 1), [*COLORS].index(thing.color), SHAPES.index(thing.shape)])
    return torch.tensor(rows)


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def probe_loss(read: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """How wrong the probe's readings [N, 15] are: presence, box, color, shape."""
    there = seen[:, 0] > 0
    presence = F.binary_cross_entropy_with_logits(read[:, 0], seen[:, 0])
    box = F.smooth_l1_loss(read[there, 1:5], seen[there, 1:5], beta=0.05)
    color = F.cross_entropy(read[there, 5 : 5 + len(COLORS)], seen[there, 5].long())
    shape = F.cross_entropy(read[there, 5 + len(COLORS) :], seen[there, 6].long())
    return presence + 10 * box + color + shape


def answer_loss(logits: torch.Tensor, labels: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Cross-entropy; a number's label is spread over its neighbours, so that near misses are less wrong."""
    values = torch.full((logits.shape[-1],), -1)
    values[numbers] = torch.arange(len(numbers))
    value = values[labels]
    wanted = F.one_hot(labels, logits.shape[-1]).float()
    near = torch.softmax(-((torch.arange(len(numbers))[None] - value[:, None]) ** 2) / (2 * SPREAD**2), 1)
    wanted[value >= 0] = torch.zeros_like(wanted[value >= 0]).index_copy(1, numbers, near[value >= 0])
    return F.cross_entropy(logits, wanted)


def _after(ids: list[int], turn: list[int]) -> int:
    """Where the last occurrence of `turn` ends."""
    return max(i + len(turn) for i in range(len(ids)) if ids[i : i + len(turn)] == turn)


@torch.no_grad()
def replies(
    model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, samples: Sequence[Sample], sample: bool
) -> list[str]:
    """What the policy answers, sampled at temperature 1 (seeded) or greedily."""
    torch.manual_seed(0)
    model.eval()
    texts: list[str] = []
    for i in range(0, len(samples), 128):
        part = samples[i : i + 128]
        inputs = processor(text=prompts(processor, part), images=pictures(part), padding=True, return_tensors="pt")
        made = model.generate(**inputs, max_new_tokens=24, do_sample=sample)
        texts += processor.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    model.train()
    return texts


def iou(text: str, wanted: Sequence[float]) -> float:
    """IoU of the answered box with the wanted one; 0 where the answer is none."""
    found = BOX.fullmatch(text.strip())
    if not found:
        return 0.0
    a = [float(value) for value in found.groups()]
    over = max(min(a[2], wanted[2]) - max(a[0], wanted[0]), 0) * max(min(a[3], wanted[3]) - max(a[1], wanted[1]), 0)
    area = max(a[2] - a[0], 0) * max(a[3] - a[1], 0) + (wanted[2] - wanted[0]) * (wanted[3] - wanted[1])
    return over / (area - over)


def measure(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, count: int) -> dict[str, float]:
    """Held-out figures: mean IoU of grounding, sampled and greedy; shares of right and well-formed answers."""
    figures = {}
    samples = [make("grounding", HOLDOUT + seed) for seed in range(count)]
    for name, sampled in (("sampled", True), ("greedy", False)):
        texts = replies(model, processor, samples, sampled)
        figures[f"{name}_iou"] = sum(iou(t, s.target["boxes"][0]) for t, s in zip(texts, samples, strict=True)) / count
        figures[f"{name}_format"] = sum(bool(BOX.fullmatch(t.strip())) for t in texts) / count
    for task in ("color", "counting", "relation"):
        samples = [make(task, HOLDOUT + seed) for seed in range(count // 2)]
        figures[task] = sum(t.strip() == answer(s) for t, s in zip(replies(model, processor, samples, False), samples, strict=True)) / len(
            samples
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--pool", type=int, default=30_000)
    parser.add_argument("--every", type=int, default=100, help="steps between measurements")
    parser.add_argument("--stop", type=float, default=0.38, help="sampled held-out IoU at which supervision stops")
    parser.add_argument("--tight-steps", type=int, default=400)
    parser.add_argument("--stage", choices=("all", "supervised", "tight", "measure"), default="all")
    arguments = parser.parse_args()
    ASSET.mkdir(parents=True, exist_ok=True)
    for stage in ("supervised", "tight"):
        if arguments.stage in ("all", stage):
            train(arguments, Curve(ASSET / "training.jsonl", stage), tight=stage == "tight")
    model, processor = load()
    print(measure(model, processor, 1024), flush=True)
    samples = [make("grounding", HOLDOUT + seed) for seed in range(6)] + [make("counting", HOLDOUT), make("relation", HOLDOUT)]
    for sample, text in zip(samples, replies(model, processor, samples, True), strict=True):
        print(sample.prompt, "->", text, "| right:", answer(sample), flush=True)


if __name__ == "__main__":
    main()
