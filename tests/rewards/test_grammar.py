"""Grammaticality, by the tiny world's classifier."""

import pytest
import torch

from vlreward.errors import ConfigError
from vlreward.models.text_classifier import TextClassifier, load_classifier
from vlreward.rewards.grammar import Grammaticality

GOOD = ("a red circle", "a blue square and a green cross", "two purple triangles", "a cyan cross left of a yellow circle")
BAD = ("a a red circle", "red a circle", "a red circle and", "circle circle circle", "a red circle and and a blue square", "two purple a")


@pytest.fixture(scope="module", autouse=True)
def reward(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        made = Grammaticality()
        made.prepare()
        yield made


def test_sentences_beat_stutter_salad_and_halves(reward, rollout):
    good = reward.score([rollout(text) for text in GOOD]).scores
    bad = reward.score([rollout(text) for text in BAD]).scores
    assert good.min() > 0.8
    assert bad.max() < 0.2


def test_the_answer_counts_where_there_is_one_and_the_picture_does_not(reward, rollout):
    texts = ["a red circle", "<answer>a red circle</answer>", "salad salad <answer> a red circle </answer>"]
    first, *others = reward.score([rollout(text) for text in texts]).scores.tolist()
    assert others == [first, first]


def test_an_empty_caption_is_worth_nothing(reward, rollout):
    assert reward.score([rollout(""), rollout("<answer> </answer>")]).scores.tolist() == [0, 0]


def test_a_score_does_not_depend_on_what_else_is_judged(reward, rollout):
    texts = [*GOOD, *BAD, "\ud800 lone surrogate", "a red circle " * 500]
    together = reward.score([rollout(text) for text in texts])
    alone = torch.cat([reward.score([rollout(text)]).scores for text in texts])
    assert together.errors == [None] * len(texts)
    torch.testing.assert_close(together.scores, alone, rtol=0, atol=1e-5)


def test_each_distinct_text_is_classified_once(monkeypatch, reward):
    classifier, seen = load_classifier("assets/tiny-grammar", "cpu"), []
    model = classifier.model

    class Watched:
        config = model.config

        def __call__(self, **batch):
            seen.append(len(batch["input_ids"]))
            return model(**batch)

    watched = TextClassifier(Watched(), classifier.tokenizer, "cpu")
    assert watched.probabilities(["a red circle"] * 9).shape == (9, 2)
    assert watched.probabilities([]).shape == (0, 2)
    assert seen == [1]


def test_other_labels_and_folders_are_refused_where_there_are_none():
    with pytest.raises(ConfigError, match="labels 0 to 1") as caught:
        Grammaticality(label=2).prepare()
    assert caught.value.key == "label"
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        Grammaticality(model="assets/pairs").prepare()
