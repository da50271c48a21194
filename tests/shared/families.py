"""Untrained vision-language models of the real classes, small enough for tests: weights and pictures mean nothing, shapes do."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GenerationConfig,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    InternVLVisionConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2TokenizerFast,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SiglipVisionConfig,
)  # fmt: skip

from vlreward.data.media import Clip, Picture
from vlreward.types import Sample

FAMILIES = ("qwen2_5_vl", "qwen3_vl", "internvl", "gemma3", "llava_onevision")
QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TEXT = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 2048, "bos_token_id": None,
}  # fmt: skip
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% elif part['type'] == 'video' %}VIDEO{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(kind: type, special: tuple[str, ...], **names: Any) -> Any:
    made = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(special))
    extra = names or {"additional_special_tokens": list(special[3:])}
    return kind(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left",
        model_input_names=["input_ids", "attention_mask"], **({"extra_special_tokens": names} if names else extra),
    )  # fmt: skip


def template(image: str, video: str = "") -> str:
    return TEMPLATE.replace("IMAGE", image).replace("VIDEO", video)


@cache
def family(name: str) -> tuple[Any, Any]:
    """(model, processor); the same objects at every call."""
    torch.manual_seed(0)
    model, processor = {
        "qwen2_5_vl": qwen25, "qwen3_vl": qwen3, "internvl": internvl, "gemma3": gemma3, "llava_onevision": onevision,
    }[name]()  # fmt: skip
    ids = processor.tokenizer
    model.generation_config = GenerationConfig(eos_token_id=ids.eos_token_id, pad_token_id=ids.pad_token_id)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1) if parameter.ndim > 1 else None
    return model.eval(), processor


def qwen(kind: str) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    ids = tokenizer(Qwen2TokenizerFast, QWEN)
    number = ids.convert_tokens_to_ids
    shared = {
        "image_token_id": number("<|image_pad|>"), "video_token_id": number("<|video_pad|>"), "tie_word_embeddings": True,
        "vision_start_token_id": number("<|vision_start|>"), "vision_end_token_id": number("<|vision_end|>"),
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "spatial_merge_size": 2, "temporal_patch_size": 2,
        "out_hidden_size": 64,
    }  # fmt: skip
    return ids, shared, vision


def qwen_processor(kind: type, video: type, ids: Any, patch: int) -> Any:
    sizes = {"patch_size": patch, "temporal_patch_size": 2, "merge_size": 2}
    area = (2 * patch) ** 2
    image = Qwen2VLImageProcessor(**sizes, size={"shortest_edge": 4 * area, "longest_edge": 12 * area})
    words = template("<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>")
    clips = video(**sizes, size={"shortest_edge": 4 * area, "longest_edge": 64 * area})
    return kind(image_processor=image, tokenizer=ids, video_processor=clips, chat_template=words)


def qwen25() -> tuple[Any, Any]:
    ids, shared, vision = qwen("qwen2_5_vl")
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
    config = Qwen2_5_VLConfig(
        text_config=TEXT | {"vocab_size": len(ids), "rope_parameters": rope}, **shared,
        vision_config=vision | {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]},
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config), qwen_processor(Qwen2_5_VLProcessor, Qwen2VLVideoProcessor, ids, 14)


def qwen3() -> tuple[Any, Any]:
    ids, shared, vision = qwen("qwen3_vl")
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4, "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config=TEXT | {"vocab_size": len(ids), "rope_parameters": rope, "head_dim": 16}, **shared,
        vision_config=vision | {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
    )  # fmt: skip
    return Qwen3VLForConditionalGeneration(config), qwen_processor(Qwen3VLProcessor, Qwen3VLVideoProcessor, ids, 16)


def internvl() -> tuple[Any, Any]:
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<IMG_CONTEXT>", "<img>", "</img>", "<video>")
    ids = tokenizer(
        PreTrainedTokenizerFast, special, context_image_token="<IMG_CONTEXT>", start_image_token="<img>", end_image_token="</img>",
        video_token="<video>",
    )  # fmt: skip
    vision = InternVLVisionConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=[32, 32], patch_size=[8, 8]
    )
    config = InternVLConfig(
        vision_config=vision, text_config=Qwen2Config(**TEXT, vocab_size=len(ids)), downsample_ratio=0.5,
        image_token_id=ids.convert_tokens_to_ids("<IMG_CONTEXT>"), image_seq_length=4,
    )  # fmt: skip
    image = GotOcr2ImageProcessor(size={"height": 32, "width": 32}, crop_to_patches=True, min_patches=1, max_patches=4)
    processor = InternVLProcessor(
        image_processor=image, tokenizer=ids, video_processor=InternVLVideoProcessor(size={"height": 32, "width": 32}), image_seq_length=4,
        chat_template=template("<IMG_CONTEXT>", "<video>"),
    )  # fmt: skip
    return InternVLForConditionalGeneration(config), processor


def gemma3() -> tuple[Any, Any]:
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image_soft_token>", "<start_of_image>", "<end_of_image>")
    ids = tokenizer(
        PreTrainedTokenizerFast, special, image_token="<image_soft_token>", boi_token="<start_of_image>", eoi_token="<end_of_image>"
    )
    layers = ["sliding_attention", "full_attention", "sliding_attention"]
    text = TEXT | {"vocab_size": len(ids), "head_dim": 16, "layer_types": layers, "sliding_window": 24, "query_pre_attn_scalar": 16}
    config = Gemma3Config(
        text_config=text, vision_config=SiglipVisionConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8,
            vision_use_head=False,
        ).to_dict(), mm_tokens_per_image=4, image_token_index=ids.convert_tokens_to_ids("<image_soft_token>"),
        boi_token_index=ids.convert_tokens_to_ids("<start_of_image>"), eoi_token_index=ids.convert_tokens_to_ids("<end_of_image>"),
    )  # fmt: skip
    image = Gemma3ImageProcessor(size={"height": 32, "width": 32}, image_seq_length=4)
    processor = Gemma3Processor(image_processor=image, tokenizer=ids, image_seq_length=4, chat_template=template("<start_of_image>"))
    return Gemma3ForConditionalGeneration(config), processor


def onevision() -> tuple[Any, Any]:
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
    ids = tokenizer(PreTrainedTokenizerFast, special, image_token="<image>", video_token="<video>")
    pins = [[32, 32], [32, 64], [64, 32], [64, 64]]
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8,
            vision_use_head=False,
        ), text_config=Qwen2Config(**TEXT, vocab_size=len(ids)), image_token_index=ids.convert_tokens_to_ids("<image>"),
        video_token_index=ids.convert_tokens_to_ids("<video>"), vision_feature_layer=-1, image_grid_pinpoints=pins,
    )  # fmt: skip
    image = LlavaOnevisionImageProcessor(size={"height": 32, "width": 32}, image_grid_pinpoints=pins)
    processor = LlavaOnevisionProcessor(
        image_processor=image, tokenizer=ids, video_processor=LlavaOnevisionVideoProcessor(size={"height": 32, "width": 32}),
        num_image_tokens=16, vision_feature_select_strategy="full", chat_template=template("<image>", "<video>"),
    )  # fmt: skip
    return LlavaOnevisionForConditionalGeneration(config), processor


def picture(seed: int, width: int = 56, height: int = 56) -> Picture:
    noise = torch.rand((3, height, width), generator=torch.Generator().manual_seed(seed))
    return Picture(Image.fromarray((noise.permute(1, 2, 0) * 255).byte().numpy()))


def samples(name: str) -> list[Sample]:
    """Ragged prompts: a picture, two of other sizes, one beside a long text, none, and a clip where the family reads them."""
    made = [
        Sample(id="one", prompt="Where?", visuals=(picture(1),)),
        Sample(id="two", prompt="Which of these is red?", visuals=(picture(2, 90, 40), picture(3, 40, 90))),
        Sample(id="long", prompt="Say at length what is to be seen here. " * 3, visuals=(picture(4, 70, 70),)),
        Sample(id="none", prompt="Is a square red?"),
    ]
    if name.startswith("qwen"):
        frames = torch.rand((4, 3, 56, 56), generator=torch.Generator().manual_seed(5))
        made.append(Sample(id="clip", prompt="When?", visuals=(Clip(frames, fps=2.0),)))
    return made
