"""Samples as a chat model reads them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from PIL import Image
from torch.nn.functional import interpolate

from vlreward.config import Bound, Count, Positive
from vlreward.data.media import Clip, Picture, Visual
from vlreward.errors import ConfigError
from vlreward.types import Sample

FRAME_FACTOR = 2
"""A clip's frames are a multiple of this, the last one repeated. Source: qwen-vl-utils, vision_process.py."""

TILED = 5
"""Axes of pixels that come in tiles: [pictures, tiles, channels, height, width] (LLaVA-OneVision)."""
NESTED = "Gemma3"
"""Processors that want pictures nested by text, as no other does."""
PER_TOKEN = ("mm_token_type_ids", "token_type_ids")
"""What a processor says of each token: 0 text, 1 picture, 2 clip."""


@dataclass(frozen=True, kw_only=True)
class Clips:
    """The `policy.clips:` block: what of a clip the policy sees. Both halves of the rule are qwen-vl-utils'."""

    fps: Positive = 2.0
    """Frames a second."""
    frames: Annotated[int, Bound(2)] = 64
    """At most; a longer clip is thinned out evenly."""
    pixels: Count = 128 * 28 * 28
    """At most of each frame, which is scaled down to that."""


@dataclass(frozen=True)
class Prompt:
    """One sample as a policy reads it: P tokens, pictures and clips ready for its vision tower."""

    ids: torch.Tensor
    """[P] int64"""
    position: torch.Tensor
    """[P] or, for multimodal rotary embeddings, [3,P] int64"""
    block: torch.Tensor
    """[P] int64: number of the run of picture tokens a token lies in, -1 elsewhere."""
    kinds: Mapping[str, torch.Tensor]
    """name -> [P] int64, of PER_TOKEN what the policy's forward takes."""
    media: Mapping[str, torch.Tensor]
    """name -> [rows, ...]: pixels and their shapes, rows of all pictures one below the other."""


def has_clip(sample: Sample) -> bool:
    """Whether the sample shows a clip, not only pictures."""
    return any(isinstance(visual, Clip) for visual in sample.visuals)


def images(sample: Sample) -> list[Image.Image]:
    """The sample's pictures in order, without its clips. Each picture is decoded once."""
    return [visual.pil for visual in sample.visuals if isinstance(visual, Picture)]


def messages(sample: Sample, system: str = "") -> list[dict[str, Any]]:
    """One user turn: a placeholder for each picture or clip in order, then the prompt as it stands; a system turn before it where given."""
    before = [{"role": "system", "content": parts([system])}] if system else []
    return [*before, {"role": "user", "content": parts([*sample.visuals, sample.prompt])}]


def parts(content: Sequence[str | Visual]) -> list[dict[str, Any]]:
    """Words, and placeholders for pictures and clips, as a chat template takes them."""
    kinds = {Picture: "image", Clip: "video"}
    return [{"type": "text", "text": part} if isinstance(part, str) else {"type": kinds[type(part)]} for part in content]


def encode(
    processor: Any,
    samples: Sequence[Sample],
    device: str = "cpu",
    answers: Sequence[str] = (),
    side: str = "left",
    clips: Clips | None = None,
    system: str = "",
) -> Any:
    """Model inputs of B samples, padded on that side, ready to be answered; or with the answers behind them.

    Without a budget, clips are read as they are, all frames; either way with their own time between frames.
    """
    texts = processor.apply_chat_template([messages(sample, system) for sample in samples], add_generation_prompt=True, tokenize=False)
    texts = [f"{text}{answer}" for text, answer in zip(texts, answers or [""] * len(texts), strict=True)]
    visuals = [sample.visuals for sample in samples]
    return processed(processor, texts, visuals, clips, padding=True, padding_side=side).to(device)


def reply_inputs(processor: Any, text: str, content: Sequence[str | Visual], clips: Clips | None = None) -> dict[str, torch.Tensor]:
    """Model inputs, [1,T] and media, of a turn within a chat: `text` as the chat template writes it, with the placeholders of `content`."""
    visuals = [part for part in content if not isinstance(part, str)]
    inputs = processed(processor, [text], [visuals], clips, add_special_tokens=False)
    return {name: torch.as_tensor(values) for name, values in inputs.items() if name != "attention_mask"}


def processed(processor: Any, texts: list[str], visuals: Sequence[Sequence[Visual]], clips: Clips | None, **settings: Any) -> Any:
    """What the processor makes of texts and of the visuals of each, whose placeholders stand in it, in order.

    Where a chat template has written the token that begins a text, as Gemma's does, the tokenizer adds no second one.
    """
    nested = [[visual.pil for visual in row if isinstance(visual, Picture)] for row in visuals]
    pictures: list[Any] = [picture for row in nested for picture in row]
    if pictures and type(processor).__name__.startswith(NESTED):
        pictures = nested
    videos: dict[str, Any] = {}
    shown = [_shown(visual, processor, clips) for row in visuals for visual in row if isinstance(visual, Clip)]
    if shown:
        times = [{"fps": fps, "frames_indices": [*range(len(frames))], "total_num_frames": len(frames)} for frames, fps in shown]
        videos = {"videos": [frames for frames, _ in shown], "video_metadata": times, "do_sample_frames": False}
        videos |= {"videos_kwargs": {"do_resize": False}} if clips else {}
    bos = processor.tokenizer.bos_token
    if bos and texts[0].startswith(bos):
        settings = {"add_special_tokens": False} | settings
    return processor(text=texts, images=pictures or None, **videos, **settings, return_tensors="pt")


def _shown(clip: Clip, processor: Any, clips: Clips | None) -> tuple[torch.Tensor, float]:
    """[F,3,H,W] uint8, F a multiple of FRAME_FACTOR; and frames a second"""
    video = getattr(processor, "video_processor", None)
    if video is None:
        raise ConfigError(f"{type(processor).__name__} reads no clips; use a model that does, or pictures", "policy.model")
    frames, fps = clip.sampled(clips.fps, clips.frames) if clips else (clip.tensor, clip.fps)
    if clips:
        from qwen_vl_utils.vision_process import smart_resize

        factor = getattr(video, "patch_size", 14) * getattr(video, "merge_size", 2)
        size = smart_resize(frames.shape[2], frames.shape[3], factor, min_pixels=factor**2, max_pixels=max(factor**2, clips.pixels))
        frames = interpolate(frames, size, mode="bicubic", antialias=True) if size != tuple(frames.shape[2:]) else frames
    frames = (frames.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return torch.cat([frames, frames[-1:].expand(-len(frames) % FRAME_FACTOR, -1, -1, -1)]), fps


def read(processor: Any, policy: Any, sample: Sample, clips: Clips | None = None, system: str = "") -> Prompt:
    """The sample for that policy (not wrapped), on the CPU."""
    inputs = {
        name: torch.as_tensor(values)
        for name, values in encode(processor, [sample], clips=clips, system=system).items()
        if name != "attention_mask"
    }
    ids = inputs.pop("input_ids")[0]
    return compose(policy, ids, {name: inputs.pop(name)[0] for name in PER_TOKEN if name in inputs}, inputs)


def compose(policy: Any, ids: torch.Tensor, kinds: Mapping[str, torch.Tensor], media: Mapping[str, torch.Tensor]) -> Prompt:
    """P tokens, what the processor says of each ([P] a name), and the media among them, with the positions that the policy gives them."""
    taken = inspect.signature(type(policy).forward).parameters
    find = getattr(policy.model, "get_rope_index", None)
    position = torch.arange(len(ids))
    if find is not None:
        position = position.expand(3, -1)
        if media:
            known = inspect.signature(find).parameters
            rows = {name: values[None] for name, values in kinds.items()}
            position = find(ids[None], **{name: values for name, values in {**media, **rows}.items() if name in known})[0][:, 0]
    pictured = kinds.get("token_type_ids", torch.zeros_like(ids)) == 1
    starts = pictured & ~torch.cat([pictured.new_zeros(1), pictured[:-1]])
    block = torch.where(pictured, starts.cumsum(0) - 1, -1)
    return Prompt(ids, position, block, {name: values for name, values in kinds.items() if name in taken}, media)


def join(media: Sequence[Mapping[str, torch.Tensor]], device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
    """The pixels of several prompts as one; pictures of fewer tiles than another's are filled up with empty ones."""
    out: dict[str, torch.Tensor] = {}
    for name in dict.fromkeys(name for one in media for name in one):
        parts = [one[name] for one in media if name in one]
        if parts[0].ndim == TILED:
            tiles = max(part.shape[1] for part in parts)
            parts = [torch.cat([part, part.new_zeros((len(part), tiles - part.shape[1], *part.shape[2:]))], 1) for part in parts]
        out[name] = torch.cat(parts).to(device)
    return out


def stack(prompts: Sequence[Prompt], pad: int, device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
    """Model inputs of B prompts, padded on the left: ids, mask, kinds [B,P], positions [B,P] or [3,B,P], and the media."""
    width = max(len(prompt.ids) for prompt in prompts)

    def left(rows: Sequence[torch.Tensor], fill: int = 0) -> torch.Tensor:
        return torch.stack([torch.cat([row.new_full((*row.shape[:-1], width - row.shape[-1]), fill), row], -1) for row in rows], -2)

    inputs = {
        "input_ids": left([prompt.ids for prompt in prompts], pad),
        "attention_mask": left([torch.ones_like(prompt.ids) for prompt in prompts]),
        "position_ids": left([prompt.position for prompt in prompts]),
    }
    inputs |= {name: left([prompt.kinds[name] for prompt in prompts]) for name in prompts[0].kinds}
    return {name: values.to(device) for name, values in inputs.items()} | join([prompt.media for prompt in prompts], device)
