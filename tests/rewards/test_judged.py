"""Questions to a frozen vision-language model."""

from pathlib import Path

import pytest
import torch

from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.models.yes_no import load_yes_no
from vlreward.rewards.judged import YesProbability
from vlreward.tiny.tasks import HOLDOUT, make
from vlreward.types import Rollout

JUDGE = str(Path(__file__).parents[2] / "assets" / "tiny-vlm")
REWARD = YesProbability(model=JUDGE, question="{words}", lead="<answer>")
SAMPLES = [make("relation", HOLDOUT + seed) for seed in range(3)]


def scores(rows):
    output = REWARD.score(rows)
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


def test_the_score_is_the_share_of_yes_among_yes_and_no():
    judge, [sample] = load_yes_no(JUDGE, "cpu"), SAMPLES[:1]
    picture = sample.visuals[0].pil
    text = judge._turn(sample.prompt, picture) + "<answer>"
    with torch.no_grad():
        chances = judge.model(**judge.processor(text=[text], images=[picture], return_tensors="pt")).logits[0, -1].softmax(0)
    yes, no = (chances[judge._first((word,))].sum().item() for word in ("yes", "no"))
    assert scores([Rollout(sample=sample, text=sample.prompt)])[0] == pytest.approx(yes / (yes + no), abs=1e-3)


def test_prompt_and_words_stand_in_the_question_as_they_are(rollout, monkeypatch):
    asked = []
    monkeypatch.setattr(type(load_yes_no(JUDGE, "cpu")), "probability", lambda self, questions, *_: asked.extend(questions) or [0.5])
    reward = YesProbability(model=JUDGE, question="Asked {prompt}, said {words}. {words}?")
    reward.score([rollout("{prompt} {words}", prompt="why")])
    assert asked == ["Asked why, said {prompt} {words}. {prompt} {words}?"]


def test_a_broken_picture_costs_its_row_only(rollout, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    rows = [rollout("x", visuals=(Picture(tmp_path / "broken.png"),)), rollout("x")]
    output = REWARD.score(rows)
    assert output.errors[0] is not None
    assert output.errors[1] is None
    assert 0 <= output.scores[1] <= 1


def test_a_question_without_the_words_and_a_folder_without_a_model_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="question"):
        YesProbability(model=JUDGE, question="Is it good?")
    with pytest.raises(ConfigError, match="vision-language model"):
        load_yes_no(str(tmp_path), "cpu")
