import pytest

from vlreward.errors import ConfigError
from vlreward.rewards.lengths import SoftOverlong
from vlreward.rewards.similarity import RougeL
from vlreward.rewards.verbosity import LengthControlled
from vlreward.types import Rollout, Sample


def score(text: str, answer="the red cat sat", tags: bool = True) -> float:
    reward = LengthControlled(of=RougeL(tags=tags), tags=tags)
    output = reward.score([Rollout(sample=Sample(id="s", prompt="p", target={"answer": answer}), text=text)])
    assert output.errors == [None]
    return output.scores.item()


def test_an_answer_of_the_references_length_or_less_keeps_its_score():
    assert score("<answer>the red cat sat</answer>") == 1
    assert score("<answer>the red cat</answer>") == pytest.approx(6 / 7)


def test_twice_the_words_are_worth_half():
    """By hand: ROUGE-L of 4 common words of 8 and 4 is 2 * 4 / 12, and the answer is twice as long."""
    assert score("<answer>the red cat sat the red cat sat</answer>") == pytest.approx(2 / 3 / 2)


def test_the_longest_of_several_references_is_the_measure():
    assert score("<answer>the red cat sat</answer>", ["cat", "the red cat sat"]) == 1


def test_without_tags_the_whole_text_counts():
    assert score("the red cat sat", tags=False) == 1
    assert score("the red cat sat on the mat of wool", tags=False) < 0.7


def test_a_reward_outside_of_zero_and_one_is_refused():
    with pytest.raises(ConfigError, match=r"within \[0, 1\]"):
        LengthControlled(of=SoftOverlong(max=10, buffer=2))
