"""A classifier of real and made pictures, of transformers' layout."""

import pytest
import small_models
import torch

from vlreward.data.media import Clip, Picture
from vlreward.errors import ConfigError
from vlreward.rewards.realism import Realism, load_classifier


@pytest.fixture(scope="module")
def classifier() -> str:
    return small_models.classifier()


def picture(seed: int) -> Picture:
    return Picture(torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(seed)))


def test_it_is_the_probability_of_the_named_class(classifier, rollout):
    rows = [rollout(None, made=picture(seed)) for seed in range(3)]
    real, fake = (Realism(model=classifier, label=label).score(rows).scores for label in ("real", "Fake"))
    assert (real + fake).tolist() == pytest.approx([1] * 3)
    model, processor = load_classifier(classifier, "cpu")
    logits = model(**processor(images=picture(0).pil, return_tensors="pt")).logits
    assert real[0].item() == pytest.approx(logits.softmax(1)[0, 1].item(), abs=1e-6)


def test_a_picture_scores_the_same_alone_and_a_clip_as_its_middle_frame(classifier, rollout):
    reward = Realism(model=classifier, label="real", size=2)
    rows = [rollout(None, made=picture(seed)) for seed in range(5)]
    together = reward.score(rows).scores.tolist()
    assert together == pytest.approx([reward.score([row]).scores.item() for row in rows], abs=1e-6)
    clip = Clip([picture(0), picture(1), picture(2)])
    assert reward.score([rollout(None, made=clip)]).scores.item() == pytest.approx(together[1], abs=1e-2)


def test_a_class_that_the_model_lacks_and_a_folder_without_one_are_refused(classifier, rollout, tmp_path):
    with pytest.raises(ConfigError, match="Fake, Real"):
        Realism(model=classifier, label="photo").load("cpu")
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        Realism(model=str(tmp_path), label="real").load("cpu")
    output = Realism(model=classifier, label="real").score([rollout(None, made=Picture(b"no")), rollout("a")])
    assert output.errors[0] and output.errors[1] is None and output.scores.isnan().all()
