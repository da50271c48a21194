"""Which colour a found object has, decided by CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from PIL import Image

from vlreward.data.media import Picture
from vlreward.models.clip import load_clip
from vlreward.models.detector import Detection, Detector
from vlreward.registry import register

TEMPLATES = ("a photo of a {color} {label}", "a photo of a {color}-colored {label}", "a photo of a {color} object")
GREY = (153, 153, 153)
"""What stands for the background, #999."""


@register("colored")
@dataclass(kw_only=True)
class ColoredDetector(Detector):
    """The findings of another detector, each with the colour that CLIP sees in its box.

    The object is cut out by its box, its background made grey where the detector gives a mask, and the colour is the one whose
    descriptions (three of them, averaged) are nearest by CLIP. A colour is always named, the least unlikely one.

    Source: GenEval, arXiv 2310.11513, with its templates, its ten colours and CLIP ViT-L/14.
    """

    of: Detector
    model: str = "ViT-L-14/openai"
    """A folder in open_clip's format, or open_clip's MODEL/PRETRAINED."""
    colors: tuple[str, ...] = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")

    def load(self, device: str) -> None:
        self.of.load(device)
        self._clip = load_clip(self.model, device)

    @torch.no_grad()
    def detect(self, pictures: Sequence[Picture], labels: Sequence[Sequence[str]]) -> list[list[Detection]]:
        found = self.of.detect(pictures, labels)
        crops = [cut_out(picture, detection) for picture, detections in zip(pictures, found, strict=True) for detection in detections]
        if not crops:
            return found
        image = self._clip.image_features(crops)
        flat = [detection for detections in found for detection in detections]
        text = {label: self._descriptions(label) for label in dict.fromkeys(detection.label for detection in flat)}
        named = iter(self.colors[int((text[detection.label] @ image[i]).argmax())] for i, detection in enumerate(flat))
        return [[replace(detection, color=next(named)) for detection in detections] for detections in found]

    def _descriptions(self, label: str) -> torch.Tensor:
        """[C,D] one unit vector a colour"""
        texts = [template.format(color=color, label=label) for color in self.colors for template in TEMPLATES]
        return F.normalize(self._clip.text_features(texts).view(len(self.colors), len(TEMPLATES), -1).mean(1), dim=-1)


def cut_out(picture: Picture, detection: Detection) -> Picture:
    """The pixels of a detection's box, at least one of them; outside of its mask, if it has one, grey."""
    image = picture.pil
    if detection.mask is not None:
        image = Image.composite(image, Image.new("RGB", image.size, GREY), Image.fromarray(detection.mask))
    x1, y1, x2, y2 = (round(value) for value in detection.box)
    x1, y1 = min(max(x1, 0), image.width - 1), min(max(y1, 0), image.height - 1)
    return Picture(image.crop((x1, y1, max(x1 + 1, min(x2, image.width)), max(y1 + 1, min(y2, image.height)))))
