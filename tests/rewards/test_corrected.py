"""The corrected score: a task's reward times what a judge of quality thinks of it."""

import math

import pytest

from vlreward.rewards.answers import ExactMatch
from vlreward.rewards.corrected import CorrectedScore
from vlreward.rewards.given import SampleNumber
from vlreward.types import Rollout, Sample


def score(text: str, quality: object, **keys) -> float:
    reward = CorrectedScore(of=ExactMatch(), quality=SampleNumber(key="quality"), **keys)
    sample = Sample(id="s", prompt="p", target={"answer": "red", "quality": quality})
    return reward.score([Rollout(sample=sample, text=f"<answer>{text}</answer>")]).scores.item()


@pytest.mark.parametrize(
    ("text", "quality", "wanted"), [("red", 5, 2.2), ("red", 3, 0.2), ("red", 1, -1.8), ("blue", 5, 0.2), ("blue", 1, 0.2)]
)
def test_the_papers_values(text, quality, wanted):
    assert score(text, quality) == pytest.approx(wanted)


def test_another_scale_has_another_neutral_point():
    assert score("red", 0.75, neutral=0.5, shift=0.0) == pytest.approx(0.25)


def test_what_either_judge_cannot_say_is_nan():
    assert math.isnan(score("red", None))


def test_its_range_follows_from_the_two():
    assert CorrectedScore(of=ExactMatch(), quality=ExactMatch(), neutral=0.5).bounds == pytest.approx((-0.3, 0.7))
