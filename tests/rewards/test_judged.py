"""Questions to a frozen vision-language model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.models.likelihood import LikelihoodModel, load_likelihood_model
from vlreward.rewards.judged import VQAScore, YesProbability
from vlreward.tiny.tasks import HOLDOUT, make
from vlreward.types import Rollout

ASSETS = Path(__file__).parents[2] / "assets"
JUDGE = str(ASSETS / "tiny-vlm")
REWARD = YesProbability(model=JUDGE, question="{words}", lead="<answer>")
SAMPLES = [make("relation", HOLDOUT + seed) for seed in range(3)]


def picture(sample) -> Picture:
    [shown] = sample.visuals
    assert isinstance(shown, Picture)
    return shown


def scores(rows, reward=REWARD):
    output = reward.score(rows)
    assert output.errors == [None] * len(rows)
    return output.scores.tolist()


def test_the_judge_looks_at_the_picture():
    first, second = SAMPLES[:2]
    here, there = scores([Rollout(sample=first, text=first.prompt), Rollout(sample=second, text=first.prompt)])
    assert abs(here - there) > 0.01
    assert all(0 < score < 1 for score in (here, there))


def test_a_rollout_is_judged_the_same_alone_and_beside_others_with_and_without_a_picture(rollout):
    rows = [Rollout(sample=sample, text=sample.prompt) for sample in SAMPLES[:3]] + [rollout("Is it?"), rollout("no picture at all")]
    assert scores(rows) == pytest.approx([scores([row])[0] for row in rows], abs=1e-5)


@pytest.mark.parametrize("form", ["share", "probability", "log_odds"])
def test_the_score_is_the_share_of_yes_or_its_probability_or_the_log_odds(form):
    judge, [sample] = load_likelihood_model(JUDGE, "cpu"), SAMPLES[:1]
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": sample.prompt}]}]
    text = judge.processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False) + "<answer>"
    inputs = judge.processor(text=[text], images=[picture(sample).pil], return_tensors="pt")
    with torch.no_grad():
        chances = judge.model(**inputs).logits[0, -1].softmax(0)
    yes, no = (chances[judge.tokens(word)].sum().item() for word in ("yes", "no"))
    reward = replace(REWARD, form=form)
    expected = {"share": yes / (yes + no), "probability": yes, "log_odds": torch.tensor(yes / no).log().item()}[form]
    assert scores([Rollout(sample=sample, text=sample.prompt)], reward)[0] == pytest.approx(expected, rel=2e-2)


def asked_of(monkeypatch, reward, row):
    """The questions, with all else as it is."""
    asked = []

    def score(self, items):
        asked.extend(dict.fromkeys(context.words for context, _ in items))
        return original(self, items)

    original = LikelihoodModel.score_tokens
    monkeypatch.setattr(LikelihoodModel, "score_tokens", score)
    scores([row], reward)
    return asked


def test_prompt_and_words_stand_in_the_question_as_they_are(rollout, monkeypatch):
    reward = YesProbability(model=JUDGE, question="Asked {prompt}, said {words}. {words}?")
    asked = asked_of(monkeypatch, reward, rollout("{prompt} {words}", prompt="why"))
    assert asked == ["Asked why, said {prompt} {words}. {prompt} {words}?"]


def test_each_principle_is_asked_and_the_mean_is_the_score(rollout, monkeypatch):
    reward = YesProbability(model=JUDGE, question="{principle} {words}?", principles=("Be short.", "Be kind."))
    assert asked_of(monkeypatch, reward, rollout("yes")) == ["Be short. yes?", "Be kind. yes?"]
    output = reward.score([rollout("yes")])
    parts = [output.parts[f"question_{number}"].item() for number in (1, 2)]
    assert parts[0] != parts[1]
    assert output.scores.item() == pytest.approx(sum(parts) / 2)


def test_a_principle_may_be_a_question_of_its_own_about_the_words(rollout, monkeypatch):
    reward = YesProbability(model=JUDGE, question="{principle} Yes?", principles=("Is {words} true?", "Does {words} answer {prompt}?"))
    asked = asked_of(monkeypatch, reward, rollout("{principle}", prompt="why"))
    assert asked == ["Is {principle} true? Yes?", "Does {principle} answer why? Yes?"]


def test_a_made_picture_is_judged_by_a_question_that_asks_for_no_words(rollout):
    reward = YesProbability(model=JUDGE, question="Is the circle red?", lead="<answer>")
    red, white = picture(make("color", HOLDOUT)), Picture(torch.ones(3, 96, 96))
    judged = scores([rollout(made=red), rollout(made=white)], reward)
    assert judged[0] != judged[1]
    assert reward.score([rollout()]).scores.isnan().all(), "nothing was made and nothing is shown"


def test_a_broken_picture_costs_its_row_only(rollout, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    rows = [rollout("x", visuals=(Picture(tmp_path / "broken.png"),)), rollout("x")]
    output = REWARD.score(rows)
    assert output.errors[0] is not None
    assert output.errors[1] is None
    assert 0 <= output.scores[1] <= 1


def test_settings_that_cannot_be_meant_and_a_folder_without_a_model_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="principle"):
        YesProbability(model=JUDGE, question="Is it good?", principles=("Be kind.",))
    with pytest.raises(ConfigError, match="principle"):
        YesProbability(model=JUDGE, question="Is it {principle}?")
    with pytest.raises(ConfigError, match="questions"):
        VQAScore(model=JUDGE, questions=("Is it good?",))
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        load_likelihood_model(str(tmp_path), "cpu")
