"""A critic as a reward: whatever it judges, it says the same as the critic itself, and the three outcomes stay apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vlreward.config import parse
from vlreward.critics.heads.base import Head
from vlreward.critics.network import Critic
from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.models.folders import trainable_model
from vlreward.rewards.composite import Composite
from vlreward.rewards.critic import CriticReward
from vlreward.run import quiet
from vlreward.tiny.preferences import TinyComparisons
from vlreward.types import Rollout, Sample

TRUNK = Path(__file__).parents[2] / "assets" / "tiny-vlm-teller"


@pytest.fixture
def reward(tmp_path):
    """A builder: an untrained critic with that head, saved, as a reward."""

    def build(**head) -> CriticReward:
        torch.manual_seed(0)
        folder = tmp_path / head["kind"]
        with quiet("transformers"):
            trunk, processor = trainable_model(str(TRUNK), "model")
        Critic(trunk, processor, parse(Head, head), (9216, 9216)).save(folder)
        return CriticReward(path=folder)

    return build


@pytest.fixture(scope="module")
def attempts():
    """Three reports about one picture, and three pictures for one caption."""
    made = [next(iter(TinyComparisons(task=task, count=1, answers=3))).rollouts for task in ("reports", "drawings")]
    return [replace(one, group=group) for group, rollouts in enumerate(made) for one in rollouts]


def test_a_text_a_made_picture_and_a_given_pair_are_judged(reward, attempts):
    judge = reward(kind="scalar")
    made = attempts[3]
    given = Rollout(sample=replace(made.sample, visuals=(made.made,)))
    output = judge.score([*attempts, given])
    assert output.errors == [None] * 7
    direct = Critic.load(judge.path).judge(attempts).scores
    torch.testing.assert_close(output.scores[:6], direct.double(), atol=2e-6, rtol=0)
    assert output.scores[6] == pytest.approx(output.scores[3].item(), abs=2e-6)


def test_nothing_to_judge_is_nan_and_a_broken_picture_an_error(reward, attempts):
    nothing = Rollout(sample=Sample(id="n", prompt="a red cross"))
    broken = replace(attempts[0], sample=replace(attempts[0].sample, visuals=(Picture(b"no picture"),)))
    output = reward(kind="scalar").score([nothing, broken, attempts[0]])
    assert output.scores.isnan().tolist() == [True, True, False]
    assert output.errors[0] is None
    assert "not a readable picture" in str(output.errors[1])


def test_steps_are_segments_with_their_chances(reward, attempts):
    output = reward(kind="steps", form="minimum").score(attempts[:1])
    [segments] = output.segments
    text = attempts[0].text
    assert [text[one.start : one.end].endswith(".") for one in segments] == [True] * text.count(".")
    assert output.scores.item() == pytest.approx(min(one.reward for one in segments), abs=1e-6)


def test_heads_of_groups_make_a_reward_of_groups(reward, attempts):
    judge = reward(kind="duels")
    assert (judge.scope, judge.bounds) == ("group", (0.0, 1.0))
    output = judge.score([*attempts, replace(attempts[0], group=9)])
    assert output.scores[:6].isfinite().all()
    assert output.scores[6].isnan()
    assert output.scores[:3].sum().item() == pytest.approx(sum(output.parts["wins"][:3].tolist()))


def test_parts_say_what_the_score_was_made_of(reward, attempts):
    output = reward(kind="aspects", names=["colors", "shapes"]).score(attempts)
    torch.testing.assert_close(output.parts["colors"] + output.parts["shapes"], output.scores, atol=1e-5, rtol=0)


def test_a_policy_discriminator_does_not_apply_without_a_reference(reward, attempts):
    judge = reward(kind="relative")
    with_one = replace(attempts[0], sample=replace(attempts[0].sample, target={"reference": " red cross."}))
    assert judge.score([attempts[0], with_one, attempts[3]]).scores.isnan().tolist() == [True, False, True]


def test_it_is_a_term_like_any_other(reward, attempts):
    path = str(reward(kind="uncertain", caution=1.0).path)
    table = Composite.from_tree([{"kind": "critic", "path": path}, {"kind": "text_length", "weight": 0.0}])(attempts[:3])
    assert table.names == ("critic", "text_length")
    parts = table.outputs["critic"].parts
    assert parts["deviation"].min() > 0
    torch.testing.assert_close(table.total, table.scores[:, 0])


def test_a_folder_without_a_critic_is_refused_before_anything_starts():
    with pytest.raises(ConfigError, match="path: is 'runs/nowhere/critic', where no critic was saved; `vlreward train-critic` leaves one"):
        CriticReward(path=Path("runs/nowhere/critic"))
