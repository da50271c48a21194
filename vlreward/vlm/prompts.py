"""Samples as a chat model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from vlreward.data.media import Clip
from vlreward.types import Sample


def images(sample: Sample) -> list[Image.Image]:
    """The sample's pictures in order; a clip as its frames. Each picture is decoded once."""
    frames = [visual.pictures if isinstance(visual, Clip) else [visual] for visual in sample.visuals]
    return [picture.pil for pictures in frames for picture in pictures]


def messages(sample: Sample, num_images: int) -> list[dict[str, Any]]:
    """One user turn: a placeholder for each image, then the prompt as it stands."""
    return [{"role": "user", "content": [*({"type": "image"} for _ in range(num_images)), {"type": "text", "text": sample.prompt}]}]


def encode(processor: Any, samples: Sequence[Sample], device: str = "cpu") -> Any:
    """Model inputs of B samples, padded on the left, ready to be answered."""
    pictures = [images(sample) for sample in samples]
    turns = [messages(sample, len(pictures[i])) for i, sample in enumerate(samples)]
    texts = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    flat = [image for of_sample in pictures for image in of_sample]
    return processor(text=texts, images=flat or None, padding=True, padding_side="left", return_tensors="pt").to(device)
