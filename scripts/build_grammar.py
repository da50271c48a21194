#!/usr/bin/env python3
"""Train the text classifier of assets/tiny-grammar: captions as they are against captions with their words disturbed.

    python scripts/build_grammar.py                                                # on the tiny world's captions, a minute
    python scripts/build_grammar.py --captions mine.txt --base FOLDER --out FOLDER # on a file of captions, from a pretrained encoder

The disturbances are those of CLIP-Caption-Reward (arXiv 2205.13115): words repeated, removed, inserted, swapped for others or
shuffled. A disturbed caption that is among the good ones counts as good.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from curve import Curve
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from vlreward.tiny.tasks import HOLDOUT, make

ASSET = Path(__file__).parent.parent / "assets" / "tiny-grammar"
MOST = 3
"""Words that one disturbance repeats, removes, inserts or swaps, at most."""
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]

Words = list[str]


def repeated(words: Words, vocabulary: Words, rng: random.Random) -> Words:
    count = rng.randint(1, min(MOST, len(words)))
    first, place = rng.randint(0, len(words) - count), rng.randint(0, len(words))
    return words[:place] + words[first : first + count] + words[place:]


def removed(words: Words, vocabulary: Words, rng: random.Random) -> Words:
    count = rng.randint(1, min(MOST, len(words)))
    first = rng.randint(0, len(words) - count)
    return words[:first] + words[first + count :]


def inserted(words: Words, vocabulary: Words, rng: random.Random) -> Words:
    for _ in range(rng.randint(1, MOST)):
        place = rng.randint(0, len(words))
        words = [*words[:place], rng.choice(vocabulary), *words[place:]]
    return words


def swapped(words: Words, vocabulary: Words, rng: random.Random) -> Words:
    words = list(words)
    for _ in range(rng.randint(1, MOST)):
        words[rng.randrange(len(words))] = rng.choice(vocabulary)
    return words


def shuffled(words: Words, vocabulary: Words, rng: random.Random) -> Words:
    return rng.sample(words, len(words))


DISTURBANCES: tuple[Callable[[Words, Words, random.Random], Words], ...] = (repeated, removed, inserted, swapped, shuffled)


def tiny_captions(count: int, holdout: bool = False) -> list[str]:
    """Captions of both tiny tasks that have one."""
    base = HOLDOUT if holdout else 0
    return [make(task, base + seed).prompt if task == "captions" else make(task, base + seed).target["answer"]
            for seed in range(count) for task in ("captions", "descriptions")]  # fmt: skip


def examples(captions: Sequence[str], good: set[str], vocabulary: Words, rng: random.Random) -> tuple[list[str], torch.Tensor]:
    """Half of them captions as they are, label 1; half disturbed, label 0 where that made no good caption."""
    texts = []
    for i, caption in enumerate(captions):
        words = caption.split()
        texts.append(caption if i % 2 else " ".join(rng.choice(DISTURBANCES)(words, vocabulary, rng)))
    return texts, torch.tensor([int(text in good) for text in texts])


def untrained(vocabulary: Words) -> tuple[Any, Any]:
    """A BERT of 43 thousand weights that knows these words."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(SPECIAL + vocabulary)}, unk_token="[UNK]"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=32, **names)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(SPECIAL + vocabulary), hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
                        intermediate_size=96, max_position_embeddings=32, initializer_range=0.1)  # fmt: skip
    return BertForSequenceClassification(config), tokenizer


def train(arguments: argparse.Namespace, captions: list[str], held: list[str]) -> None:
    rng = random.Random(0)
    good = set(captions) | set(held)
    vocabulary = sorted({word for caption in captions for word in caption.split()})
    if arguments.base:
        model: Any = AutoModelForSequenceClassification.from_pretrained(arguments.base, num_labels=2)
        tokenizer: Any = AutoTokenizer.from_pretrained(arguments.base)
    else:
        model, tokenizer = untrained(vocabulary)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr or (2e-5 if arguments.base else 2e-3))
    curve, losses = Curve(arguments.out / "training.jsonl", "supervised"), []
    encode = lambda texts: tokenizer(texts, padding=True, truncation=True, return_tensors="pt")  # noqa: E731
    for step in range(1, arguments.steps + 1):
        texts, labels = examples(rng.choices(captions, k=arguments.batch), good, vocabulary, rng)
        loss = model(**encode(texts), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 100 == 0:
            model.eval()
            texts, labels = examples(held, good, vocabulary, random.Random(1))
            with torch.no_grad():
                found = model(**encode(texts)).logits.argmax(1)
            right = (found == labels).double()
            curve(step=step, loss=sum(losses) / len(losses), held_out_good=right[labels == 1].mean().item(),
                  held_out_disturbed=right[labels == 0].mean().item())  # fmt: skip
            model.train()
            losses = []
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    (arguments.out / "model.safetensors").chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, help="a caption a line")
    parser.add_argument("--base", type=Path, help="folder of a pretrained encoder to go on from")
    parser.add_argument("--out", type=Path, default=ASSET)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, help="2e-3 from nothing, 2e-5 from a pretrained encoder")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.captions:
        lines = [line.strip() for line in arguments.captions.read_text().splitlines() if line.strip()]
        cut = max(1, len(lines) // 10)
        captions, held = lines[cut:], lines[:cut]
    else:
        captions, held = tiny_captions(2000), tiny_captions(200, holdout=True)
    train(arguments, captions, held)


if __name__ == "__main__":
    main()
