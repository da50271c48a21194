import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch

from vlreward.data.media import Clip, Picture
from vlreward.errors import ConfigError
from vlreward.registry import find
from vlreward.rewards.base import Reward
from vlreward.rewards.clips import PerFrame
from vlreward.types import RewardOutput, Rollout, Sample

SAMPLE = Sample(id="s", prompt="p")


@dataclass(kw_only=True)
class Light(Reward):
    """Mean of all pixels, with its gradient; does not apply to a black picture and breaks on a white one."""

    kind = "light"
    differentiable = True
    seen: int = 0

    def batch(self, rollouts: Sequence[Rollout]) -> RewardOutput:
        self.seen += len(rollouts)
        scores = torch.stack([rollout.visual.tensor.mean() for rollout in rollouts if rollout.visual]).double()
        errors = ["too bright" if score == 1 else None for score in scores]
        return RewardOutput(scores=scores.masked_fill(scores == 0, float("nan")), errors=errors)


def frames(*levels: float) -> Clip:
    return Clip(torch.tensor(levels)[:, None, None, None].expand(-1, 3, 2, 2).clone())


def score(made, **keys) -> float:
    return PerFrame(of=Light(), **keys).score([Rollout(sample=SAMPLE, made=made)]).scores.item()


def test_mean_worst_and_attenuated():
    clip = frames(0.2, 0.4, 0.9)
    assert score(clip) == pytest.approx(0.5)
    assert score(clip, over="min") == pytest.approx(0.2)
    ends = math.exp(-2)
    assert score(clip, attenuation=2) == pytest.approx((0.2 * ends + 0.4 + 0.9 * ends) / (1 + 2 * ends))
    assert score(Picture(torch.full((3, 2, 2), 0.25))) == pytest.approx(0.25)


def test_segments_judge_one_frame_of_each_part_and_the_same_clip_always_alike():
    reward = PerFrame(of=Light(), segments=2)
    clips = [frames(*(0.1 + torch.rand(6, generator=torch.Generator().manual_seed(seed)) / 2)) for seed in range(40)]
    picks = [reward.chosen(clip.pictures) for clip in clips]
    assert all(len(pick) == 2 and pick[0] < 3 <= pick[1] for pick in picks)
    assert {pick[0] for pick in picks} == {0, 1, 2} and {pick[1] for pick in picks} == {3, 4, 5}
    assert picks == [reward.chosen(clip.pictures) for clip in clips]
    rows = [Rollout(sample=SAMPLE, made=clip) for clip in clips]
    assert torch.equal(reward.score(rows).scores, reward.score(rows).scores)
    assert reward.of.seen == 2 * 2 * 40


def test_a_frame_that_does_not_apply_is_left_out_and_one_that_breaks_breaks_its_row():
    rows = [Rollout(sample=SAMPLE, made=made) for made in (frames(0.0, 0.4), frames(0.0, 0.0), frames(1.0, 0.4), frames(0.2, 0.4))]
    output = PerFrame(of=Light()).score(rows)
    assert output.errors == [None, None, "too bright", None]
    assert output.scores[[0, 3]].tolist() == pytest.approx([0.4, 0.3])
    assert output.scores[[1, 2]].isnan().all()


@pytest.mark.parametrize("over", ["mean", "min"])
def test_gradient_flows_to_the_frames(over):
    pixels = frames(0.2, 0.4, 0.9).tensor.requires_grad_()
    reward = PerFrame(of=Light(), over=over)
    assert reward.differentiable
    reward.score([Rollout(sample=SAMPLE, made=Clip(pixels))]).scores.sum().backward()
    assert pixels.grad is not None
    moved = pixels.grad.flatten(1).sum(1)
    assert torch.allclose(moved, torch.tensor([1.0, 0.0, 0.0]) if over == "min" else torch.full((3,), 1 / 3))


def test_it_stands_for_the_reward_it_holds():
    of = find("rewards", "object_match")()
    reward = PerFrame(of=of)
    assert (reward.bounds, reward.differentiable, reward.needs) == (of.bounds, False, ("visual", "target.objects"))
    with pytest.raises(ConfigError, match="compares rollouts of a group"):
        PerFrame(of=find("rewards", "rank")(of=of))
    with pytest.raises(ConfigError, match="expected 0 with over 'min'"):
        PerFrame(of=of, over="min", attenuation=1.0)
