"""The zero-shot back ends on tiny random checkpoints, saved and loaded as real ones are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou
from transformers import BertConfig

from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.models.detector import Detection
from vlreward.models.zero_shot_detector import ZeroShotDetector, load_zero_shot
from vlreward.rewards.objects import ObjectMatch
from vlreward.types import Rollout, Sample

LABELS = ["cats", "traffic light", "dog"]
SIZES = [(60, 40), (60, 40), (64, 64), (40, 60)]


@pytest.fixture(params=["dino", "owl"])
def place(request, tiny_detectors) -> str:
    return tiny_detectors[request.param]


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    rng = np.random.default_rng(0)
    return [Picture(Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8))) for w, h in SIZES]


def detector(place, **keys) -> ZeroShotDetector:
    made = ZeroShotDetector(model=place, **({"at_least": 0.0, "overlap": 1.0} | keys))
    made.load("cpu")
    return made


def rows(detections: list[Detection]) -> np.ndarray:
    return np.array(sorted((*d.box, d.score) for d in detections))


def test_a_result_does_not_depend_on_the_batch_or_on_its_order(place, pictures):
    found = detector(place)
    asked = [LABELS, LABELS, ["dog"], LABELS]
    together = found.detect(pictures, asked)
    backwards = found.detect(pictures[::-1], asked[::-1])[::-1]
    small = detector(place, batch=1).detect(pictures, asked)
    for i in range(4):
        [alone] = found.detect([pictures[i]], [asked[i]])
        assert len(alone) > 3
        for other in (together[i], backwards[i], small[i]):
            assert [d.label for d in other] == [d.label for d in alone]
            assert np.abs(rows(other) - rows(alone)).max() < 1e-4


def test_boxes_are_in_pixels_of_the_picture_as_transformers_own_reading_of_the_same_output(place, pictures):
    net, processor = load_zero_shot(place, "cpu")
    for picture in pictures:
        width, height = picture.size
        owl = net.config.model_type == "owlv2"
        inputs = processor(text=[["a photo of a dog"]] if owl else "dog.", images=[picture.pil], return_tensors="pt")
        with torch.no_grad():
            output = net(**inputs)
        [theirs] = processor.image_processor.post_process_object_detection(output, threshold=0.0, target_sizes=[(height, width)])
        [ours] = detector(place).detect([picture], [["dog"]])
        corner = torch.tensor([width, height] * 2)
        inside = torch.maximum(torch.minimum(theirs["boxes"], corner), torch.zeros(4))
        good = (inside[:, :2] < inside[:, 2:]).all(1)
        wanted = np.array(sorted(torch.cat([inside, theirs["scores"][:, None]], 1)[good].tolist()))
        columns = 5 if owl else 4
        assert np.abs(rows(ours)[:, :columns] - wanted[:, :columns]).max() < 1e-4
        assert len(ours) > 3


def test_grounding_dinos_label_is_the_one_whose_tokens_fit_best_on_average(tiny_detectors, pictures):
    net, processor = load_zero_shot(tiny_detectors["dino"], "cpu")
    text = "cats. traffic light. dog."
    tokens = processor.tokenizer.convert_ids_to_tokens(processor.tokenizer(text)["input_ids"])
    assert tokens == ["[CLS]", "cat", "##s", ".", "traffic", "light", ".", "dog", ".", "[SEP]"]
    with torch.no_grad():
        logits = net(**processor(text=text, images=[pictures[0].pil], return_tensors="pt")).logits[0].sigmoid()
    wanted = torch.stack([logits[:, [1, 2]].mean(1), logits[:, [4, 5]].mean(1), logits[:, 7]], 1).max(1)
    [found] = detector(tiny_detectors["dino"]).detect([pictures[0]], [LABELS])
    assert sorted(d.score for d in found) == pytest.approx(sorted(wanted.values.tolist()), abs=1e-5)
    assert sorted(d.label for d in found) == sorted(LABELS[i] for i in wanted.indices.tolist())


def test_labels_are_read_in_lower_case_and_without_the_signs_that_end_one(tiny_detectors, pictures):
    found = detector(tiny_detectors["dino"])
    [plain], [loud] = found.detect([pictures[0]], [["cats"]]), found.detect([pictures[0]], [["Cats."]])
    assert [d.label for d in loud] == ["Cats."] * len(plain)
    assert np.abs(rows(plain) - rows(loud)).max() < 1e-6


def test_more_labels_than_the_text_encoder_holds_are_asked_in_portions(tiny_detectors, pictures):
    many = [f"{a}{b}" for a in "abc" for b in "xyz"] + ["traffic light", "dog"]
    found = detector(tiny_detectors["dino"])
    portions = found._portions(tuple(many))
    assert len(portions) > 1
    assert [label for portion in portions for label in portion] == many
    [whole] = found.detect([pictures[0]], [many])
    parts = [d for portion in portions for d in found.detect([pictures[0]], [portion])[0]]
    assert np.abs(rows(whole) - rows(parts)).max() < 1e-5


def test_unsure_boxes_and_overlapping_ones_of_a_label_are_left_out(place, pictures):
    [everything] = detector(place).detect([pictures[2]], [LABELS])
    bar = sorted(d.score for d in everything)[len(everything) // 2]
    [sure] = detector(place, at_least=bar - 1e-6).detect([pictures[2]], [LABELS])
    assert len(sure) == sum(d.score >= bar - 1e-6 for d in everything) < len(everything)
    assert [d.score for d in sure] == sorted((d.score for d in sure), reverse=True)
    [apart] = detector(place, overlap=0.3).detect([pictures[2]], [LABELS])
    assert len(apart) < len(everything)
    for label in LABELS:
        boxes = torch.tensor([d.box for d in apart if d.label == label]).reshape(-1, 4)
        assert (box_iou(boxes, boxes) - torch.eye(len(boxes))).clamp(min=0).max() <= 0.3 + 1e-6 if len(boxes) else True
    assert max(everything, key=lambda d: d.score) in apart


def test_a_picture_of_which_nothing_is_asked_holds_nothing(place, pictures):
    assert detector(place).detect(pictures[:2], [[], []]) == [[], []]
    first, second = detector(place).detect(pictures[:2], [[], ["dog"]])
    assert first == [] and second


def test_a_label_without_a_single_token_is_never_found(tiny_detectors, pictures):
    [found] = detector(tiny_detectors["dino"], at_least=1e-9).detect([pictures[0]], [["..", "dog"]])
    assert {d.label for d in found} == {"dog"}


def test_object_match_judges_by_it(place):
    reward = ObjectMatch(detector=ZeroShotDetector(model=place, at_least=0.0), at_least=0.0, surplus_at=1.0)
    picture = Picture(Image.new("RGB", (40, 30), "white"))
    samples = [Sample(id="s", prompt="a dog", target={"objects": [{"label": "dog", "count": 1}]}),
               Sample(id="s", prompt="a red dog", target={"objects": [{"label": "dog", "color": "red"}]})]  # fmt: skip
    output = reward.score([Rollout(sample=sample, made=picture) for sample in samples])
    assert 0 <= output.scores[0] <= 1
    assert "kind: colored" in (output.errors[1] or ""), "it tells no colours"
    assert all(mark.label.startswith("dog") for mark in output.marks[0])


def test_what_is_no_such_checkpoint_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is 'nowhere', neither a folder"):
        detector("nowhere")
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match="is a 'bert', expected one of grounding-dino"):
        detector(str(tmp_path / "bert"))
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot load"):
        detector(str(tmp_path / "half"))
