"""Samples as a chat model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from vlreward.data.media import Clip, Picture
from vlreward.errors import ConfigError
from vlreward.types import Sample

FRAME_FACTOR = 2
"""A clip's frames are a multiple of this, the last one repeated. Source: qwen-vl-utils, vision_process.py."""


def has_clip(sample: Sample) -> bool:
    return any(isinstance(visual, Clip) for visual in sample.visuals)


def images(sample: Sample) -> list[Image.Image]:
    """The sample's pictures in order, without its clips. Each picture is decoded once."""
    return [visual.pil for visual in sample.visuals if isinstance(visual, Picture)]


def messages(sample: Sample) -> list[dict[str, Any]]:
    """One user turn: a placeholder for each picture or clip in order, then the prompt as it stands."""
    places = [{"type": "video" if isinstance(visual, Clip) else "image"} for visual in sample.visuals]
    return [{"role": "user", "content": [*places, {"type": "text", "text": sample.prompt}]}]


def encode(processor: Any, samples: Sequence[Sample], device: str = "cpu", answers: Sequence[str] = (), side: str = "left") -> Any:
    """Model inputs of B samples, padded on that side, ready to be answered; or with the answers behind them.

    Clips are read as they are, all frames, with their own time between frames.
    """
    texts = processor.apply_chat_template([messages(sample) for sample in samples], add_generation_prompt=True, tokenize=False)
    texts = [f"{text}{answer}" for text, answer in zip(texts, answers or [""] * len(texts), strict=True)]
    pictures = [image for sample in samples for image in images(sample)]
    clips = [visual for sample in samples for visual in sample.visuals if isinstance(visual, Clip)]
    videos: dict[str, Any] = {}
    if clips:
        if getattr(processor, "video_processor", None) is None:
            raise ConfigError(f"{type(processor).__name__} reads no clips; use a model that does, or pictures", "policy.model")
        frames = [_even(clip) for clip in clips]
        times = [{"fps": clip.fps, "frames_indices": [*range(len(f))], "total_num_frames": len(f)} for clip, f in zip(clips, frames)]
        videos = {"videos": frames, "video_metadata": times, "do_sample_frames": False}
    return processor(text=texts, images=pictures or None, **videos, padding=True, padding_side=side, return_tensors="pt").to(device)


def _even(clip: Clip) -> torch.Tensor:
    """[F,3,H,W] uint8, F a multiple of FRAME_FACTOR"""
    frames = (clip.tensor.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return torch.cat([frames, frames[-1:].expand(-len(frames) % FRAME_FACTOR, -1, -1, -1)])
