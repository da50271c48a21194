"""Finding whatever is named, with the zero-shot detectors of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torchvision.ops import batched_nms, box_convert, clip_boxes_to_image

from vlreward.config import Count, Fraction
from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.models.detector import Detection, Detector
from vlreward.models.folders import frozen, pretrained, transformers_folder
from vlreward.registry import register

SENTENCE = ("grounding-dino", "mm-grounding-dino")
"""Model types that read all labels as one text, 'a cat. a dog.'"""
QUERIES = ("owlv2", "owlvit")
"""Model types that take each label as a query of its own."""
QUERY = "a photo of a {}"
"""How OWL's authors word a query."""


@register("zero_shot")
@dataclass(kw_only=True)
class ZeroShotDetector(Detector):
    """Finds what is asked for by name: Grounding DINO and MM Grounding DINO, OWL-ViT and OWLv2, whichever the checkpoint is.

    Each box gets the label that fits it best. For Grounding DINO that is the mean over the label's tokens (as its authors evaluate on
    COCO), for OWL the query's own probability. It tells no colours; wrap it in `colored` for them. Pictures of one size that are asked
    the same are one batch, so that padding cannot make a result depend on its neighbours.

    Source: Grounding DINO, arXiv 2303.05499; OWLv2, arXiv 2306.09683.
    """

    model: str
    """A folder with the checkpoint, from here or from the package's checkout."""
    at_least: Fraction = 0.2
    """Probability from which a box is a detection."""
    overlap: Fraction = 0.5
    """Of two boxes of one label with a higher IoU than this the surer one stays."""
    batch: Count = 8

    def load(self, device: str) -> None:
        self._net, self._processor = load_zero_shot(self.model, device)

    def detect(self, pictures: Sequence[Picture], labels: Sequence[Sequence[str]]) -> list[list[Detection]]:
        alike: dict[Any, list[int]] = {}
        for i, (picture, asked) in enumerate(zip(pictures, labels, strict=True)):
            alike.setdefault((picture.pil.size, tuple(dict.fromkeys(asked))), []).append(i)
        found: list[list[Detection]] = [[] for _ in pictures]
        for (_, asked), rows in alike.items():
            for first in range(0, len(rows), self.batch):
                chosen = rows[first : first + self.batch]
                for some in self._portions(asked):
                    for row, more in zip(chosen, self._detect([pictures[row] for row in chosen], some), strict=True):
                        found[row] += more
        return [sorted(detections, key=lambda detection: -detection.score) for detections in found]

    def _portions(self, labels: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The labels in as many portions as the text encoder's length asks for."""
        if not labels or self._net.config.model_type in QUERIES:
            return [labels] if labels else []
        room = self._net.config.max_text_len - 2
        portions: list[tuple[str, ...]] = []
        used = room
        for label in labels:
            length = len(self._processor.tokenizer(_plain(label), add_special_tokens=False)["input_ids"]) + 1
            if used + length > room:
                portions.append(())
                used = 0
            portions[-1] += (label,)
            used += length
        return portions

    @torch.no_grad()
    def _detect(self, pictures: Sequence[Picture], labels: tuple[str, ...]) -> list[list[Detection]]:
        """Detections in pictures of one size."""
        images = [picture.pil for picture in pictures]
        width, height = images[0].size
        if self._net.config.model_type in QUERIES:
            queries = [[QUERY.format(label) for label in labels]] * len(images)
            inputs = self._processor(text=queries, images=images, return_tensors="pt", truncation=True).to(self._net.device)
            output = self._net(**inputs)
            score_BQL = output.logits.sigmoid()
        else:
            text = " ".join(f"{_plain(label)}." for label in labels)
            inputs = self._processor(text=[text] * len(images), images=images, return_tensors="pt", truncation=True).to(self._net.device)
            output = self._net(**inputs)
            share_LT = self._shares(text, labels, output.logits.shape[-1]).to(output.logits)
            score_BQL = output.logits.sigmoid() @ share_LT.T
        # OWLv2 pads the picture to a square on its right and bottom, the others see it as it is
        side = (max(width, height),) * 2 if self._net.config.model_type == "owlv2" else (width, height)
        box_BQ4 = box_convert(output.pred_boxes, "cxcywh", "xyxy") * torch.tensor([*side, *side], device=output.pred_boxes.device)
        return [self._kept(score, boxes, labels, (width, height)) for score, boxes in zip(score_BQL, box_BQ4, strict=True)]

    def _shares(self, text: str, labels: tuple[str, ...], length: int) -> torch.Tensor:
        """[L,T] how much of each label every token of the text is; a row adds up to 1, or 0 for a label without a token."""
        spans = self._processor.tokenizer(text, return_offsets_mapping=True, truncation=True)["offset_mapping"]
        share = torch.zeros(len(labels), length)
        start = 0
        for row, label in enumerate(labels):
            end = start + len(_plain(label))
            tokens = [t for t, (a, b) in enumerate(spans[:length]) if start <= a < b <= end]
            share[row, tokens] = 1 / max(1, len(tokens))
            start = end + 2
        return share

    def _kept(self, score_QL: torch.Tensor, box_Q4: torch.Tensor, labels: tuple[str, ...], size: tuple[int, int]) -> list[Detection]:
        score_Q, label_Q = score_QL.float().cpu().max(1)
        box_Q4 = clip_boxes_to_image(box_Q4.float().cpu(), (size[1], size[0]))
        good = (score_Q >= self.at_least) & (box_Q4[:, :2] < box_Q4[:, 2:]).all(1)
        score_Q, label_Q, box_Q4 = score_Q[good], label_Q[good], box_Q4[good]
        kept = batched_nms(box_Q4, score_Q, label_Q, self.overlap)
        rows = zip(box_Q4[kept].tolist(), score_Q[kept].tolist(), label_Q[kept].tolist(), strict=True)
        return [Detection(labels[label], "", (x1, y1, x2, y2), score) for (x1, y1, x2, y2), score, label in rows]


def _plain(label: str) -> str:
    """A label as Grounding DINO reads it: lower case, without the signs that end a label."""
    return " ".join(label.lower().replace(".", " ").replace("?", " ").split())


@cache
def load_zero_shot(model: str, device: str) -> tuple[Any, Any]:
    """Network and processor from a folder. Raises ConfigError."""
    from transformers import AutoConfig, AutoModelForZeroShotObjectDetection, AutoProcessor

    folder = transformers_folder(model)
    kind = pretrained(AutoConfig, folder).model_type
    if kind not in SENTENCE + QUERIES:
        raise ConfigError(f"{model!r} is a {kind!r}, expected one of {', '.join(SENTENCE + QUERIES)}", "model")
    return frozen(AutoModelForZeroShotObjectDetection, folder, device, dtype=torch.float32), pretrained(AutoProcessor, folder)
