"""Checkpoints of Grounding DINO and OWLv2 in the real format, with random weights and a tokenizer of a few words."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
import torch

WORDS = ("cat", "dog", "red", "##s", "stop", "sign", "traffic", "light")
SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
"""Where BERT has them; Grounding DINO's code knows the ends of phrases by these numbers."""
TEXT_LENGTH = 24


def grounding_dino(place: Path) -> Path:
    """Save one; its folder."""
    from transformers import (
        BertConfig,
        BertTokenizerFast,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    pieces = (*WORDS, *string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase))
    vocab = SPECIAL | {200 + i: piece for i, piece in enumerate(pieces)}
    place.mkdir(parents=True)
    (place / "vocab.txt").write_text("\n".join(vocab.get(i, f"[unused{i}]") for i in range(1100)))
    tokenizer = BertTokenizerFast(vocab=str(place / "vocab.txt"), do_lower_case=True, model_max_length=TEXT_LENGTH)
    swin = SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    bert = BertConfig(
        vocab_size=1100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=64
    )
    config = GroundingDinoConfig(
        backbone_config=swin.to_dict(), text_config=bert.to_dict(), num_queries=20, encoder_layers=1, decoder_layers=2, d_model=32,
        encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=2, decoder_attention_heads=2, max_text_len=TEXT_LENGTH,
        disable_custom_kernels=True,
    )  # fmt: skip
    torch.manual_seed(0)
    net = GroundingDinoForObjectDetection(config)
    for layer in (net.model.encoder_output_bbox_embed.layers[-1], *(head.layers[-1] for head in net.bbox_embed)):
        layer.bias.data[2:] += 1.5  # boxes so large that they overlap
    net.save_pretrained(place)
    images = GroundingDinoImageProcessor(size={"shortest_edge": 128, "longest_edge": 192})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(place)
    return place


def owlv2(place: Path) -> Path:
    """Save one; its folder."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizerFast, Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    text = {
        "vocab_size": len(vocab), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "max_position_embeddings": 40, "bos_token_id": len(vocab) - 2, "eos_token_id": len(vocab) - 1, "pad_token_id": 0,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 48, "patch_size": 8,
    }  # fmt: skip
    torch.manual_seed(0)
    net = Owlv2ForObjectDetection(Owlv2Config(text_config=text, vision_config=vision, projection_dim=16))
    for weights in net.box_head.parameters():
        weights.data *= 0.3  # boxes near the patches they belong to
    net.save_pretrained(place)
    tokenizer = CLIPTokenizerFast(vocab=vocab, merges=[], model_max_length=40)
    Owlv2Processor(Owlv2ImageProcessor(size={"height": 48, "width": 48}), tokenizer).save_pretrained(place)
    return place


@pytest.fixture(scope="session")
def tiny_detectors(tmp_path_factory) -> dict[str, str]:
    """The folders of a Grounding DINO ('dino') and an OWLv2 ('owl')."""
    root = tmp_path_factory.mktemp("detectors")
    return {"dino": str(grounding_dino(root / "dino")), "owl": str(owlv2(root / "owl"))}
