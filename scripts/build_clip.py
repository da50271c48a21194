#!/usr/bin/env python3
"""Train the tiny CLIP of assets/tiny-clip from nothing, on scenes of the tiny world and the photographs that scikit-image carries.

    python scripts/build_clip.py
    python scripts/build_clip.py --measure           # the figures of assets/tiny-clip/README.md again

The result is an open_clip folder: `open_clip.create_model_from_pretrained('local-dir:assets/tiny-clip')` and
`open_clip.get_tokenizer('local-dir:assets/tiny-clip')` read it. `training.jsonl` beside it holds the curve. About a tenth of the rows
are random crops of the photographs, so the model knows these by heart; it cannot judge other photographs.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from curve import Curve
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from vlreward.tiny.scene import Scene, scene
from vlreward.tiny.tasks import HOLDOUT

ASSET = Path(__file__).parent.parent / "assets" / "tiny-clip"
SIDE = 32
LENGTH = 24
PHOTO_SHARE = 0.1
PHOTOS = {
    "astronaut": ("a portrait of an astronaut in an orange space suit", "a smiling woman in front of a flag and a space shuttle model",
                  "an astronaut smiling for a photograph"),
    "chelsea": ("a photo of a tabby cat", "the face of a ginger cat looking to the side", "a close-up of a cat with whiskers"),
    "coffee": ("a cup of coffee on a wooden table", "an espresso in a white cup with a saucer and a spoon", "a photo of a cup of coffee"),
    "rocket": ("a rocket on its launch pad at night", "a rocket launch with bright lights and smoke", "a photo of a rocket"),
    "camera": ("a man with a camera on a tripod", "a black and white photo of a cameraman in a coat", "a photographer on a meadow"),
    "coins": ("old coins on a dark ground", "rows of ancient coins", "a photo of many coins"),
    "horse": ("the black silhouette of a horse", "a drawing of a horse in black on white", "a horse seen from the side"),
    "moon": ("the surface of the moon with craters", "a gray photo of the moon", "a crater on the moon"),
    "stereo_motorcycle": ("a motorcycle in a garage", "a red motorcycle in a workshop", "a parked motorbike"),
    "hubble_deep_field": ("galaxies in deep space", "the hubble deep field with many galaxies and stars", "a dark sky full of galaxies"),
    "retina": ("the retina of an eye", "a medical picture of the back of an eye with blood vessels", "an orange eye fundus"),
    "text": ("a photo of handwritten text", "words written by hand on paper in a gray photo", "handwriting on paper"),
    "page": ("a scan of a printed page", "a page of printed text", "paragraphs of a book about image segmentation"),
    "brick": ("a brick wall", "a wall of bricks in gray", "brick texture"),
    "grass": ("a lawn of grass seen from above", "gray grass texture", "blades of grass"),
    "gravel": ("gravel on the ground", "many small stones", "pebble texture"),
    "clock": ("a blurred clock in motion", "a clock face that moves", "a photo of a clock"),
    "immunohistochemistry": ("stained tissue under a microscope", "a microscope picture of cells in blue and brown", "tissue cells"),
}  # fmt: skip
CONFIG = {
    "model_cfg": {
        "embed_dim": 96,
        "vision_cfg": {"image_size": SIDE, "layers": 3, "width": 96, "head_width": 32, "patch_size": 4, "mlp_ratio": 3.0},
        "text_cfg": {"context_length": LENGTH, "vocab_size": 0, "width": 96, "heads": 3, "layers": 2, "hf_tokenizer_name": "tiny-clip"},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "squash"},
}


def tokenizer(captions: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE in lower case; the end token has the highest number, where open_clip's pooling looks for it."""
    words = Tokenizer(models.BPE())
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(captions, trainers.BpeTrainer(vocab_size=640, show_progress=False, initial_alphabet=alphabet))
    words.add_special_tokens(["<|pad|>", "<|start|>", "<|end|>"])
    ends = [(token, words.token_to_id(token)) for token in ("<|start|>", "<|end|>")]
    words.post_processor = processors.TemplateProcessing(single="<|start|> $A <|end|>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<|start|>", eos_token="<|end|>", pad_token="<|pad|>", model_max_length=LENGTH
    )


def photographs() -> dict[str, Image.Image]:
    from skimage import data

    found = {}
    for name in PHOTOS:
        array = getattr(data, name)()
        array = array[0] if isinstance(array, tuple) else array
        array = array.astype(np.uint8) * 255 if array.dtype == bool else array
        found[name] = Image.fromarray(array).convert("RGB")
    return found


def crop(rng: random.Random, photo: Image.Image) -> Image.Image:
    """A random part (at least half of each side) as a small square, sometimes mirrored."""
    width, height = (round(side * rng.uniform(0.5, 1.0)) for side in photo.size)
    left, top = rng.randint(0, photo.width - width), rng.randint(0, photo.height - height)
    part = photo.crop((left, top, left + width, top + height)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part


def render(rng: random.Random, view: Scene) -> Image.Image:
    """A scene at 32 pixels, sometimes drawn at 96 first; sometimes blurred, compressed or shrunk, as generated pictures look."""
    image = view.picture(SIDE) if rng.random() < 0.7 else view.picture(96).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    kind = rng.random()
    if kind < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
    elif kind < 0.35:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=rng.randint(30, 90))
        image = Image.open(stream).convert("RGB")
    elif kind < 0.45:
        side = rng.randint(16, 28)
        image = image.resize((side, side), Image.Resampling.BOX).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return image


def tensor(images: list[Image.Image]) -> torch.Tensor:
    """[B,3,H,W] uint8"""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)


def disturb(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 -> [-1, 1] with a little noise and change of brightness on half of the rows."""
    values = pixels.float() / 127.5 - 1
    size = (len(values), 1, 1, 1)
    strength = torch.rand(size) * 0.15 * (torch.rand(size) < 0.5)
    return ((values + torch.randn_like(values) * strength) * (1 + 0.1 * torch.randn(size)) + 0.05 * torch.randn(size)).clamp(-1, 1)


def train(arguments: argparse.Namespace, curve: Curve) -> None:
    """Contrastive training; rows with the same caption or photograph are right answers of each other."""
    torch.manual_seed(0)
    rng = random.Random(0)
    start = time.time()
    views = [scene(random.Random(f"clip/{seed}")) for seed in range(arguments.pool)]
    photos = photographs()
    pixels = tensor([render(rng, view) for view in views] + [crop(rng, photos[name]) for name in PHOTOS for _ in range(200)])
    captions = [view.caption for view in views]
    words = tokenizer(captions + [text for texts in PHOTOS.values() for text in texts] * 20)
    words.save_pretrained(ASSET)
    CONFIG["model_cfg"]["text_cfg"]["vocab_size"] = len(words)
    (ASSET / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    read = open_clip.get_tokenizer(f"local-dir:{ASSET}")
    scene_tokens = read(captions)
    photo_tokens = {name: read(list(texts)) for name, texts in PHOTOS.items()}
    known = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
    label = torch.tensor([known[caption] for caption in captions])
    model = open_clip.create_model(f"local-dir:{ASSET}", load_weights=False).train()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters; {len(pixels)} pictures in {time.time() - start:.0f} s", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, arguments.lr, total_steps=arguments.steps, pct_start=0.05)
    names = list(PHOTOS)
    num_photos = round(arguments.batch * PHOTO_SHARE)
    total = 0.0
    for step in range(1, arguments.steps + 1):
        rows = torch.randint(len(views), (arguments.batch - num_photos,))
        which = [rng.randrange(len(names)) for _ in range(num_photos)]
        crops = torch.tensor([len(views) + number * 200 + rng.randrange(200) for number in which])
        texts = [photo_tokens[names[number]][rng.randrange(len(PHOTOS[names[number]]))] for number in which]
        image = model.encode_image(disturb(pixels[torch.cat([rows, crops])]), normalize=True)
        text = model.encode_text(torch.cat([scene_tokens[rows], torch.stack(texts)]), normalize=True)
        same = torch.cat([label[rows], -1 - torch.tensor(which)])
        wanted = (same[:, None] == same[None]).float()
        wanted = wanted / wanted.sum(1, keepdim=True)
        logits = model.logit_scale.exp() * image @ text.T
        loss = (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, float(np.log(100)))
        total += loss.item()
        if step % 50 == 0:
            curve(step=step, loss=total / 50)
            total = 0.0
        if step % 250 == 0 or step == arguments.steps:
            save_file({name: value.contiguous() for name, value in model.state_dict().items()}, ASSET / "open_clip_model.safetensors")
            (ASSET / "open_clip_model.safetensors").chmod(0o644)
            curve(step=step, **measure())


@torch.no_grad()
def measure(rounds: int = 16) -> dict[str, float]:
    """Held-out figures of the saved asset, read as a user reads it: retrieval of the caption among 32, and of a photograph's among 18.

    `relation` is the share of relation scenes whose caption beats the one with its two objects exchanged.
    """
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{ASSET}")
    words = open_clip.get_tokenizer(f"local-dir:{ASSET}")
    right, swapped = [], []
    seed = HOLDOUT
    for _ in range(rounds):
        views: dict[str, Scene] = {}
        while len(views) < 32:
            view = scene(random.Random(f"clip/{seed}"))
            views.setdefault(view.caption, view)
            seed += 1
        image = model.encode_image(torch.stack([preprocess(view.picture(SIDE)) for view in views.values()]), normalize=True)
        text = model.encode_text(words(list(views)), normalize=True)
        right += ((image @ text.T).argmax(1) == torch.arange(32)).tolist()
        for row, view in enumerate(views.values()):
            if view.relations:
                first, second = view.caption.split(f" {view.relations[0]['relation']} ")
                other = model.encode_text(words([f"{second} {view.relations[0]['relation']} {first}"]), normalize=True)
                swapped.append(float(image[row] @ text[row]) > float(image[row] @ other[0]))
    photos = photographs()
    image = model.encode_image(torch.stack([preprocess(photo) for photo in photos.values()]), normalize=True)
    found = []
    for index in range(3):
        text = model.encode_text(words([texts[index] for texts in PHOTOS.values()]), normalize=True)
        found += ((image @ text.T).argmax(1) == torch.arange(len(photos))).tolist()
    return {"retrieval_32": float(np.mean(right)), "relation": float(np.mean(swapped)), "photos": float(np.mean(found))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--pool", type=int, default=20_000)
    parser.add_argument("--measure", action="store_true")
    arguments = parser.parse_args()
    ASSET.mkdir(parents=True, exist_ok=True)
    if not arguments.measure:
        train(arguments, Curve(ASSET / "training.jsonl", "contrastive"))
    print(measure(64), flush=True)


if __name__ == "__main__":
    main()
