from dataclasses import dataclass, replace

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from vlreward.config import part, resolved
from vlreward.data.media import Picture
from vlreward.models.colored_detector import GREY, TEMPLATES, ColoredDetector, cut_out
from vlreward.models.detector import Detection, Detector
from vlreward.models.shape_detector import ShapeDetector
from vlreward.rewards.objects import ObjectMatch
from vlreward.tiny.scene import COLORS, SHAPES, Thing, draw
from vlreward.types import Rollout, Sample


@dataclass(kw_only=True)
class Colorless(ShapeDetector):
    """The tiny world's detector without its sense of colour."""

    def detect(self, pictures, labels):
        return [[replace(d, color="") for d in detections] for detections in super().detect(pictures, labels)]


@dataclass(kw_only=True)
class Nothing(Detector):
    """Finds nothing."""

    def detect(self, pictures, labels):
        return [[] for _ in pictures]


@pytest.fixture(scope="module")
def colored(request):
    made = ColoredDetector(of=Colorless(), model=str(request.config.rootpath / "assets" / "tiny-clip"), colors=tuple(COLORS))
    made.load("cpu")
    return made


def shape(color: str, label: str, x: float = 0.5) -> Picture:
    return Picture(draw((Thing(color, label, x, 0.5, 0.45),), 64, 64))


def test_clip_names_the_colours_of_the_tiny_worlds_shapes(colored):
    pairs = [(color, label) for color in COLORS for label in SHAPES]
    found = colored.detect([shape(*pair) for pair in pairs], [[]] * len(pairs))
    assert [[d.label for d in detections] for detections in found] == [[label] for _, label in pairs]
    hits = [detections[0].color == color for detections, (color, _) in zip(found, pairs, strict=True)]
    assert np.mean(hits) > 0.85


def test_two_objects_in_one_picture_keep_their_own_colours(colored):
    both = Picture(draw((Thing("red", "circle", 0.25, 0.5, 0.35), Thing("yellow", "square", 0.75, 0.5, 0.35)), 96, 96))
    assert {d.label: d.color for d in colored.detect([both], [[]])[0]} == {"circle": "red", "square": "yellow"}


def test_a_colour_does_not_depend_on_the_batch(colored):
    pictures = [shape("red", "circle"), shape("cyan", "square"), shape("purple", "cross")]
    together = colored.detect(pictures, [[]] * 3)
    assert together == [colored.detect([picture], [[]])[0] for picture in pictures]


def test_it_is_open_clips_zero_shot_choice_over_the_mean_of_the_templates(colored, request):
    net, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{request.config.rootpath}/assets/tiny-clip")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{request.config.rootpath}/assets/tiny-clip")
    net = net.eval()
    for color, label in [("red", "circle"), ("green", "square"), ("blue", "triangle"), ("yellow", "cross")]:
        picture = shape(color, label)
        [found] = colored.detect([picture], [[]])[0]
        with torch.no_grad():
            text = net.encode_text(tokenizer([t.format(color=c, label=label) for c in COLORS for t in TEMPLATES]), normalize=True)
            text = torch.nn.functional.normalize(text.view(len(COLORS), 3, -1).mean(1), dim=-1)
            image = net.encode_image(preprocess(picture.pil.crop(tuple(map(round, found.box))))[None], normalize=True)
        assert found.color == list(COLORS)[int((image @ text.T).argmax())]


def test_the_background_turns_grey_where_the_detector_has_a_mask():
    picture = Picture(Image.new("RGB", (10, 8), "red"))
    mask = np.zeros((8, 10), dtype=bool)
    mask[2:4, 3:5] = True
    box = (2.0, 1.0, 6.0, 5.0)
    plain, masked = (np.asarray(cut_out(picture, Detection("a", "", box, 0.9, m)).pil) for m in (None, mask))
    assert plain.shape == masked.shape == (4, 4, 3)
    assert (plain == [255, 0, 0]).all()
    assert (masked[1:3, 1:3] == [255, 0, 0]).all()
    assert (masked[0] == GREY).all() and (masked[3] == GREY).all() and (masked[:, 3] == GREY).all()


@pytest.mark.parametrize("box", [(3.2, 3.2, 3.3, 3.3), (-5, -5, 0.2, 0.2), (9.8, 7.9, 30, 30), (0, 0, 10, 8)])
def test_a_tiny_or_outlying_box_still_has_a_pixel(box):
    width, height = cut_out(Picture(Image.new("RGB", (10, 8))), Detection("a", "", box, 0.9)).size
    assert 1 <= width <= 10 and 1 <= height <= 8


def test_nothing_found_stays_nothing(colored):
    empty = ColoredDetector(of=Nothing(), model=colored.model)
    empty.load("cpu")
    assert empty.detect([shape("red", "circle")], [["circle"]]) == [[]]


def test_with_it_object_match_judges_colours_that_the_detector_does_not_tell(colored):
    sample = Sample(id="s", prompt="p", target={"objects": [{"label": "circle", "color": "red"}]})
    rows = [Rollout(sample=sample, made=shape(color, "circle")) for color in ("red", "yellow")]
    bare, with_clip = (ObjectMatch(detector=detector).score(rows) for detector in (Colorless(), colored))
    assert all("kind: colored" in (error or "") for error in bare.errors)
    assert with_clip.scores.tolist() == [1, 0]


def test_it_reads_from_a_configuration():
    tree = {"kind": "colored", "of": {"kind": "zero_shot", "model": "models/dino"}, "model": "ViT-B-32/openai"}
    assert part("detectors", resolved(part("detectors", tree))) == part("detectors", tree)
