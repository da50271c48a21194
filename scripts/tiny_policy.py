"""What the tiny Qwen2.5-VL-shaped policies have in common: tokenizer, model, processor, how they are read and asked, and taught."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
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

from vlreward.models.prompts import encode, stack
from vlreward.types import Sample
from vlreward.vlm.talk import Talk

PATCH, MERGE = 12, 2
INITIAL = 0.08
"""Deviation of the initial weights: about 1 / sqrt(width), where the usual 0.02 leaves so narrow a model on a plateau."""
NEARNESS = 6.0
"""Numbers over which the initial embeddings of numbers lose their likeness."""
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
TURNS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen's chat template."""


def tokenizer(corpus: Sequence[str], pieces: str, size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE within the pieces (a regular expression) of a text."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pieces), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=alphabet))
    words.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|im_end|>", pad_token="<|endoftext|>",
                                   additional_special_tokens=SPECIAL[1:], padding_side="left", model_max_length=2048)  # fmt: skip


def build(
    words: PreTrainedTokenizerFast, numbers: Sequence[str], template: str, sections: Sequence[int], base: float, pace: int = 4
) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """Untrained model and its processor.

    A visual token knows where it is only by its rotary distance to the words before it. The usual base of 1e4 turns the width's
    frequencies by less than 0.01 over so small a picture, and attention starts blind to distance; hence a small base, width sections of
    their own, and random query and key biases. `pace` is the rotary distance of a second. The numbers, in their order, begin with
    embeddings that are alike where they are near.
    """
    ids = {token: words.convert_tokens_to_ids(token) for token in SPECIAL}
    area = (PATCH * MERGE) ** 2
    size = {"shortest_edge": 4 * area, "longest_edge": 64 * area}
    picture = Qwen2VLImageProcessor(patch_size=PATCH, temporal_patch_size=2, merge_size=MERGE, size=size)
    video = Qwen2VLVideoProcessor(patch_size=PATCH, temporal_patch_size=2, merge_size=MERGE, size=size, cap_pixels_per_frame=True)
    processor = Qwen2_5_VLProcessor(image_processor=picture, tokenizer=words, video_processor=video, chat_template=template)
    width = 128
    text = {
        "vocab_size": len(words), "hidden_size": width, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 2048, "bos_token_id": None, "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"], "initializer_range": INITIAL,
        "rope_parameters": {"rope_type": "default", "mrope_section": list(sections), "rope_theta": base},
    }  # fmt: skip
    vision = {
        "depth": 3, "hidden_size": 96, "intermediate_size": 256, "num_heads": 3, "patch_size": PATCH, "spatial_merge_size": MERGE,
        "temporal_patch_size": 2, "out_hidden_size": width, "window_size": 8 * PATCH * MERGE, "fullatt_block_indexes": [0, 1, 2],
        "tokens_per_second": pace, "initializer_range": INITIAL,
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
        rows = torch.tensor([words.convert_tokens_to_ids(number) for number in numbers])
        phase = torch.arange(len(rows))[:, None] * torch.randn(1, width // 2) / NEARNESS
        model.get_input_embeddings().weight[rows] = INITIAL * 2**0.5 * torch.cat([phase.sin(), phase.cos()], 1)
        for layer in model.model.language_model.layers:
            layer.self_attn.q_proj.bias.normal_()
            layer.self_attn.k_proj.bias.normal_()
    model.generation_config = GenerationConfig(eos_token_id=ids["<|im_end|>"], pad_token_id=ids["<|endoftext|>"], do_sample=True)
    return model, processor


def load(folder: Path) -> tuple[Any, Any]:
    """The saved model and processor."""
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32), AutoProcessor.from_pretrained(folder)


def save(folder: Path, model: Any, processor: Any) -> None:
    """Model and processor, readable by all."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)


def inherit(model: Any, processor: Any, folder: Path) -> None:
    """Take over the saved weights of a model of the same shape with other words: those that both know keep their vectors."""
    first, words = load(folder)
    known, own = words.tokenizer.get_vocab(), processor.tokenizer.get_vocab()
    kept = {name: value for name, value in first.state_dict().items() if "embed_tokens" not in name and "lm_head" not in name}
    model.load_state_dict(kept, strict=False)
    shared = [(own[token], known[token]) for token in own if token in known]
    with torch.no_grad():
        places, sources = torch.tensor(shared).T
        model.get_input_embeddings().weight[places] = first.get_input_embeddings().weight[sources]


def spoken(model: Any, processor: Any, talks: Sequence[Talk]) -> tuple[Any, torch.Tensor]:
    """Inputs of whole conversations, padded on the left, and labels [B,T] of the policy's own tokens, -100 elsewhere."""
    inputs = stack([talk.whole(model) for talk in talks], processor.tokenizer.pad_token_id)
    labels = torch.full_like(inputs["input_ids"], -100)
    for row, talk in zip(labels, talks, strict=True):
        tokens, mine = torch.tensor(talk.tokens), torch.tensor(talk.mine, dtype=torch.bool)
        row[-len(tokens) :] = torch.where(mine, tokens, -100)
    return inputs, labels


def lesson(processor: Any, samples: Sequence[Sample], answers: Sequence[str]) -> tuple[Any, torch.Tensor]:
    """Inputs of questions with their answers, and labels [B,T] of the answers' tokens, -100 elsewhere."""
    inputs = encode(processor, samples, answers=[f"{answer}<|im_end|>" for answer in answers], side="right")
    labels = inputs["input_ids"].clone()
    turn = processor.tokenizer.encode("assistant\n")
    for row, ids in zip(labels, inputs["input_ids"].tolist(), strict=True):
        row[: max(i + len(turn) for i in range(len(ids)) if ids[i : i + len(turn)] == turn)] = -100
    labels[inputs["attention_mask"] == 0] = -100
    return inputs, labels


def next_token_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the labels [B,T] that are not -100, each given what stands before it; logits [B,T,V]."""
    spoken = labels[:, 1:] != -100
    return F.cross_entropy(logits[:, :-1][spoken], labels[:, 1:][spoken])


@torch.no_grad()
def replies(model: Any, processor: Any, samples: Sequence[Sample], sample: bool, tokens: int = 24) -> list[str]:
    """What the policy answers, sampled at temperature 1 (seeded) or greedily."""
    torch.manual_seed(0)
    model.eval()
    texts: list[str] = []
    for i in range(0, len(samples), 128):
        inputs = encode(processor, samples[i : i + 128])
        made = model.generate(**inputs, max_new_tokens=tokens, do_sample=sample)
        texts += processor.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    model.train()
    return texts


HELP = {
    "pool": "samples of each task",
    "every": "steps between measurements, after which it is saved",
    "looking": "weight of the probes' loss",
    "resume": "go on from the saved model",
    "tasks": "only these",
}


def options(about: str | None, stages: Iterable[str], **defaults: Any) -> argparse.ArgumentParser:
    """The command line of a script that trains an asset in stages: an option for each default, and `--stage`."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        kind: dict[str, Any] = {"action": "store_true"} if default is False else {"type": type(default), "default": default}
        parser.add_argument(f"--{name.replace('_', '-')}", help=HELP.get(name), **kind)
    parser.add_argument("--stage", choices=("all", *stages, "measure"), default="all")
    return parser


def in_stages(arguments: argparse.Namespace, asset: Path, stages: Mapping[str, Callable[[Curve], None]]) -> tuple[Any, Any]:
    """Train the stages that are asked for, each with its curve in training.jsonl; the saved model and processor."""
    asset.mkdir(parents=True, exist_ok=True)
    for name, train in stages.items():
        if arguments.stage in ("all", name):
            train(Curve(asset / "training.jsonl", "resumed" if getattr(arguments, "resume", False) else name))
    return load(asset)


def show(model: Any, processor: Any, samples: Sequence[Sample], answer: Callable[[Sample], str], tokens: int) -> None:
    """Print what the policy answers, and what is right."""
    for sample, text in zip(samples, replies(model, processor, samples, True, tokens), strict=True):
        print(sample.prompt, "->", repr(text), "| right:", repr(answer(sample)), flush=True)


class Descent:
    """AdamW on a schedule: calling it with a loss takes a step. `rate(done)` is the share of the learning rate at a step, from 0 on."""

    def __init__(self, model: Any, lr: float, rate: Callable[[int], float], beside: Iterable[torch.nn.Parameter] = ()):
        self.model = model
        self.optimizer = torch.optim.AdamW([*model.parameters(), *beside], lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)

    def __call__(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
