import math
import random
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from vlreward.errors import ConfigError, RewardError
from vlreward.rewards.base import Reward
from vlreward.rewards.shaping import CentredSigmoid, Clipped, Rank, StepClip, StepDelta
from vlreward.types import RewardOutput, Rollout, Sample, Segment

NAN = float("nan")


@dataclass(kw_only=True)
class Reads(Reward):
    """The number that the text is; nothing for 'none', a broken judge for 'break'."""

    kind = "reads"
    bounds = (-100.0, 100.0)

    def one(self, rollout):
        if rollout.text == "break":
            raise RewardError("the judge is gone")
        return NAN if rollout.text == "none" else float(rollout.text)


@dataclass(kw_only=True)
class StepsOf(Reward):
    """The mean of comma-separated numbers, each of them a step."""

    kind = "steps_of"
    bounds = (-100.0, 100.0)

    def batch(self, rollouts):
        segments = []
        for rollout in rollouts:
            spots = [i for i, letter in enumerate(rollout.text) if letter == ","]
            ends = zip([0, *(spot + 1 for spot in spots)], [*spots, len(rollout.text)], strict=True)
            segments.append([Segment(start=a, end=b, reward=float(rollout.text[a:b])) for a, b in ends if b > a][::-1])
        scores = [math.fsum(s.reward for s in found) / max(1, len(found)) for found in segments]
        return RewardOutput(scores=torch.tensor(scores, dtype=torch.float64), segments=segments)


def rollouts(*texts, groups=None, **target):
    sample = Sample(id="s", prompt="p", target=target)
    return [Rollout(sample=sample, text=str(text), group=g) for text, g in zip(texts, groups or [0] * len(texts), strict=True)]


def scores(reward, *texts, groups=None, **target):
    return reward.score(rollouts(*texts, groups=groups, **target)).scores.tolist()


def test_a_clip_cuts_at_both_ends_and_takes_its_bounds_from_what_it_clips():
    clip = Clipped(of=Reads(), low=-1.0, high=2.0)
    assert scores(clip, -5, -1, 0.5, 2, 7) == [-1, -1, 0.5, 2, 2]
    assert clip.bounds == (-1, 2)
    assert Clipped(of=Reads(), high=3.0).bounds == (-100, 3)


def test_a_clip_upside_down_is_refused():
    with pytest.raises(ConfigError, match="less than high"):
        Clipped(of=Reads(), low=1.0, high=1.0)


@pytest.mark.parametrize("shape", [Clipped(of=Reads(), high=1.0), CentredSigmoid(of=Reads(), reference=0.0), Rank(of=Reads())])
def test_what_is_inapplicable_or_broken_stays_so_and_the_raw_score_is_a_part(shape):
    output = shape.score(rollouts(3, "none", "break", 4))
    assert output.scores.isnan().tolist() == [False, True, True, False]
    assert output.errors == [None, None, "the judge is gone", None]
    assert output.parts["raw"].tolist()[0] == 3


def test_the_centred_sigmoid_is_a_half_at_the_reference_and_the_mean_over_several():
    assert scores(CentredSigmoid(of=Reads(), reference=2.0), 2, 3) == [0.5, 1 / (1 + math.exp(-1))]
    got = scores(CentredSigmoid(of=Reads(), reference="scores", slope=2.0), 1, reference_scores=[0, 1, 3])
    assert got[0] == pytest.approx(sum(1 / (1 + math.exp(-2 * (1 - r))) for r in (0, 1, 3)) / 3, abs=1e-15)


def test_reference_texts_are_judged_by_the_same_reward_once_a_sample():
    class Counts(Reads):
        asked = 0

        def one(self, rollout):
            self.asked += 1
            return super().one(rollout)

    judge = Counts()
    assert scores(CentredSigmoid(of=judge), 1, 0, references=["0", "1"]) == scores(
        CentredSigmoid(of=Reads(), reference="scores"), 1, 0, reference_scores=[0.0, 1.0]
    )
    assert judge.asked == 4


@pytest.mark.parametrize(
    ("reference", "target", "problem"),
    [
        ("texts", {"references": "one text"}, "expected a list of texts"),
        ("texts", {"references": ["1", "break"]}, r"references\[1\] cannot be judged: the judge is gone"),
        ("texts", {"references": ["none"]}, r"references\[0\] cannot be judged: it lacks"),
        ("scores", {"reference_scores": ["high"]}, "expected a list of numbers"),
        ("scores", {"reference_scores": [NAN]}, "expected a list of numbers"),
    ],
)
def test_broken_references_cost_their_own_row(reference, target, problem):
    good = {"references": ["0"], "reference_scores": [0.0]}
    rows = [*rollouts(0, **target), *rollouts(0, **good)]
    output = CentredSigmoid(of=Reads(), reference=reference).score(rows)
    assert output.scores.isnan().tolist() == [True, False]
    assert re.search(problem, output.errors[0] or ""), output.errors[0]


def test_without_references_the_centred_sigmoid_does_not_apply():
    output = CentredSigmoid(of=Reads()).score(rollouts(1))
    assert output.scores.isnan().all()
    assert output.errors == [None]


def test_ranks_run_from_zero_to_one_within_each_group_and_ties_share_theirs():
    got = scores(Rank(of=Reads()), 5, 1, 1, 9, 7, 7, groups=[0, 0, 0, 0, 1, 1])
    assert got == [2 / 3, 1 / 6, 1 / 6, 1, 0.5, 0.5]


def test_a_rollout_alone_among_the_judged_ones_of_its_group_ranks_in_the_middle():
    assert scores(Rank(of=Reads()), 5, "none", groups=[0, 0])[0] == 0.5


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=9), st.randoms(use_true_random=False))
def test_ranks_are_scipys_ignore_scale_and_follow_permutations(values, rng):
    got = scores(Rank(of=Reads()), *values)
    assert got == pytest.approx(((rankdata(values) - 1) / (len(values) - 1)).tolist())
    assert scores(Rank(of=Reads()), *[10 * v + 3 for v in values]) == got
    order = list(range(len(values)))
    rng.shuffle(order)
    assert scores(Rank(of=Reads()), *[values[i] for i in order]) == [got[i] for i in order]


def test_clipped_steps_never_earn_and_repeating_one_does_not_pay():
    clip = StepClip(of=StepsOf(), high=0.5)
    assert scores(clip, "0.2,0.9,0.5") == [pytest.approx(-0.3)]
    assert scores(clip, "0.9,0.9,0.9,0.9", "0.9", "") == [0, 0, 0]
    assert scores(clip, *[",".join(["0.4"] * n) for n in (1, 2, 5)]) == pytest.approx([-0.1, -0.2, -0.5])


def test_step_differences_add_up_to_the_first_step_whatever_follows():
    delta = StepDelta(of=StepsOf())
    assert scores(delta, "0.7", "0.7,0.1", "0.7,0.9,0.9,0.9,0.2", "") == pytest.approx([0.7, 0.7, 0.7, 0])
    output = delta.score(rollouts("0.7,0.1,0.4"))
    assert [segment.reward for segment in output.segments[0]] == pytest.approx([0.6, -0.3, 0.4])
    assert [segment.start for segment in output.segments[0]] == [0, 4, 8], "in the order of the text"


def test_gradient_flows_through_the_clip_and_the_sigmoid():
    @dataclass(kw_only=True)
    class Grows(Reward):
        kind = "grows"
        bounds = (-10.0, 10.0)
        differentiable = True

        def batch(self, rollouts):
            return RewardOutput(scores=weight * torch.arange(1.0, 1 + len(rollouts)))

    for shape, wanted in ((Clipped(of=Grows(), high=1.5), 1.0), (CentredSigmoid(of=Grows(), reference=0.0), None)):
        weight = torch.tensor(1.0, requires_grad=True)
        assert shape.differentiable
        [gradient] = torch.autograd.grad(shape.score(rollouts("a", "b")).scores.sum(), weight)
        share = torch.sigmoid(torch.tensor([1.0, 2.0]))
        assert gradient.item() == pytest.approx(wanted or (share * (1 - share) * torch.tensor([1.0, 2.0])).sum().item(), rel=1e-6)


def test_random_scores_stay_in_bounds():
    rng = random.Random(0)
    values = [rng.choice([rng.uniform(-100, 100), rng.randint(-2, 2), 100, -100]) for _ in range(2000)]
    groups = [rng.randrange(300) for _ in values]
    for reward in (Clipped(of=Reads(), low=-2.0, high=1.0), CentredSigmoid(of=Reads(), reference=0.5, slope=9.0), Rank(of=Reads())):
        got = np.array(scores(reward, *values, groups=groups))
        low, high = reward.bounds
        assert ((got >= low) & (got <= high)).all()
