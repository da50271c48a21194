"""BLIP-2's two heads on a tiny checkpoint of transformers' layout."""

import pytest
import small_models
import torch

from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.rewards.visual_consistency import VisualConsistency, load_matcher


@pytest.fixture(scope="module")
def matcher() -> str:
    return small_models.matcher()


def picture(seed: int) -> Picture:
    return Picture(torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(seed)))


def rows(rollout):
    return [rollout(None, made=picture(0), prompt="a cat"), rollout(None, made=picture(1), prompt="two red dog on the left of a blue cat"),
            rollout(None, made=picture(2), prompt="x", context="a red dog")]  # fmt: skip


def test_both_heads_count_by_their_weights(matcher, rollout):
    output = VisualConsistency(model=matcher).score(rows(rollout))
    assert output.errors == [None] * 3
    assert output.scores.tolist() == pytest.approx(((output.parts["semantic"] + output.parts["detail"]) / 2).tolist())
    alone = VisualConsistency(model=matcher, detail=0.0).score(rows(rollout)).scores
    assert alone.tolist() == output.parts["semantic"].tolist()
    with pytest.raises(ConfigError, match="nothing is measured"):
        VisualConsistency(model=matcher, semantic=0.0, detail=0.0)


def test_the_heads_are_those_of_the_model(matcher, rollout):
    model, processor = load_matcher(matcher, "cpu")
    inputs = processor.tokenizer("a cat", return_tensors="pt")
    pixels = processor.image_processor(images=picture(0).pil, return_tensors="pt")["pixel_values"]
    given = {"pixel_values": pixels, "input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    with torch.no_grad():
        cosine = model(**given, use_image_text_matching_head=False).logits_per_image.item()
        match = model(**given, use_image_text_matching_head=True).logits_per_image.softmax(1)[0, 1].item()
    parts = VisualConsistency(model=matcher).score(rows(rollout)[:1]).parts
    assert parts["semantic"].item() == pytest.approx((cosine + 1) / 2, abs=1e-6)
    assert parts["detail"].item() == pytest.approx(match, abs=1e-6)


def test_a_pair_scores_the_same_alone_and_padded_beside_longer_words(matcher, rollout):
    reward = VisualConsistency(model=matcher)
    together = reward.score(rows(rollout)).scores.tolist()
    assert together == pytest.approx([reward.score([row]).scores.item() for row in rows(rollout)], abs=1e-5)
    assert len({round(score, 4) for score in together}) == 3


def test_words_and_picture_both_matter(matcher, rollout):
    reward = VisualConsistency(model=matcher)
    base, words, other = (
        reward.score([rollout(None, made=picture(seed), prompt=prompt)]).scores.item()
        for seed, prompt in ((0, "a cat"), (0, "two dog"), (3, "a cat"))
    )
    assert abs(base - words) > 1e-3 and abs(base - other) > 1e-3


def test_a_broken_picture_costs_its_row_and_a_folder_without_a_model_is_refused(matcher, rollout, tmp_path):
    output = VisualConsistency(model=matcher).score([rollout(None, made=Picture(b"no")), rows(rollout)[0]])
    assert output.errors[0] and output.scores[1] > 0
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        VisualConsistency(model=str(tmp_path)).load("cpu")
