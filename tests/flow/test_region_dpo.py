"""Regions on the grid of latents, and preferences between them."""

import math

import pytest
import torch
import torch.nn.functional as F
from gaussian import decode, gaussian_velocity

from vlreward.errors import DataError
from vlreward.flow.collect import Batch, Collected
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.math import interpolate
from vlreward.flow.objectives.region_dpo import RegionDpo, over
from vlreward.flow.plan import Noise, Plan
from vlreward.flow.regions import Region, coverage, regions_of
from vlreward.flow.rollout import rollout
from vlreward.types import RewardOutput, RewardTable, Rollout, Sample

LEFT, RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]


def marked(*rows: tuple[list[float], float, str]) -> dict:
    return {"regions": [{"box": box, "score": score, "label": label} for box, score, label in rows]}


def pictures(*targets: dict) -> Batch:
    """Renoised pictures [3,4,4] of one group, the same level and noise."""
    torch.manual_seed(0)
    size = len(targets)
    x0, s, eps = torch.randn(size, 3, 4, 4), torch.full((size,), 0.5), torch.randn(3, 4, 4)
    return Batch(
        prompts=[""] * size, step=4, kernel=Ode(), x=interpolate(x0, eps, s), x_next=x0, s=s, s_next=torch.zeros(size), targets=targets,
        log_prob=torch.zeros(size), advantage=torch.zeros(size), weight=torch.ones(size), group=torch.zeros(size, dtype=torch.int64),
    )  # fmt: skip


def given(live: torch.Tensor, other: torch.Tensor):
    return lambda x, s, policy="train": live if policy == "train" else other


def test_cells_count_by_how_much_of_them_is_covered():
    share = coverage([(0.25, 0.0, 0.5, 0.5)], 2, 2)
    assert share.tolist() == [[0.5, 0.0], [0.0, 0.0]]
    assert coverage([(0.0, 0.0, 0.5, 1.0), (0.25, 0.0, 1.0, 1.0)], 1, 2).tolist() == [[1.0, 1.0]]
    assert coverage([(0.4, 0.4, 0.6, 0.6)], 4, 4).sum().item() == pytest.approx(0.04 * 16)
    value = torch.arange(8.0).view(2, 2, 2)
    assert over(value, Region((0.0, 0.0, 0.5, 0.5))).item() == pytest.approx((0 + 4) / 2)
    assert over(torch.stack([value] * 3, 1), Region((0.0, 0.0, 1.0, 1.0))).item() == pytest.approx(3.5)


@pytest.mark.parametrize(
    ("regions", "problem"),
    [
        ("none", "target.regions is none, expected a list"),
        ([{"box": [0, 0, 50, 50]}], r"regions.0.box is \[0, 0, 50, 50\], expected x1 y1 x2 y2 as shares"),
        ([{"box": [0.5, 0, 0.5, 1]}], "x1 < x2"),
        ([{"box": [0, 0, 1, 1], "score": "good"}], "regions.0.score is 'good', expected a number"),
    ],
)
def test_regions_that_are_none_are_refused(regions, problem):
    with pytest.raises(DataError, match=rf"s7: .*{problem}"):
        regions_of({"regions": regions}, "s7")


def test_pairs_are_of_one_label_across_pictures_and_of_any_within_one():
    a, b = Region((0, 0, 1, 1), 1.0, "A"), Region((0, 0, 1, 1), 0.0, "B")
    worse, unknown = Region((0, 0, 1, 1), 0.5, "A"), Region((0, 0, 1, 1), None, "A")
    across, within = RegionDpo().pairs([[a, b], [worse, unknown]])
    assert across == [((0, a), (1, worse))]
    assert within == [((0, a), (0, b))]
    assert RegionDpo(within=0.0).pairs([[a, b]]) == ([], [])


def test_the_loss_is_log_two_a_kind_at_the_reference():
    batch, live = pictures(marked((LEFT, 1, ""), (RIGHT, 0, "")), marked((LEFT, 0, ""))), torch.full((2, 3, 4, 4), 0.3)
    assert RegionDpo(within=0.5).loss(given(live, live), batch).value.item() == pytest.approx(1.5 * math.log(2))


def test_the_loss_by_hand():
    batch = pictures(marked((LEFT, 1, "")), marked((RIGHT, 0, "")))
    live, other = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    gained = (live - batch.straight).square() - (other - batch.straight).square()
    margin = gained[0, :, :, :2].mean() - gained[1, :, :, 2:].mean()
    wanted = F.softplus(10 * margin).item()
    assert RegionDpo(strength=20.0).loss(given(live, other), batch).value.item() == pytest.approx(wanted, rel=1e-5)


def test_no_gradient_reaches_what_lies_in_no_region():
    batch, live = pictures(marked((LEFT, 1, ""), (RIGHT, 0, "")), marked((LEFT, 0, ""))), torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = RegionDpo(within=0.0).loss(given(live, torch.zeros(2, 3, 4, 4)), batch)
    [slope] = torch.autograd.grad(loss.value, live)
    assert slope[0, :, :, 2:].abs().max() == 0
    assert (slope[0, :, :, :2] != 0).all()
    assert (slope[1, :, :, :2] != 0).all()
    assert slope[1, :, :, 2:].abs().max() == 0


def test_over_whole_pictures_it_is_dpo():
    from vlreward.flow.objectives.flow_dpo import FlowDpo

    whole = [0.0, 0.0, 1.0, 1.0]
    batch, live, other = pictures(marked((whole, 1, "")), marked((whole, 0, ""))), torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    ours, theirs = (objective(strength=30.0).loss(given(live, other), batch).value.item() for objective in (RegionDpo, FlowDpo))
    assert ours == pytest.approx(theirs, rel=1e-5)


def collected_of(targets: list[dict]) -> Collected:
    plan = Plan(sigmas=torch.tensor([1.0, 0.5, 0.0]), kernel=Ode(), renoised=2, shared_levels=True)
    velocity = gaussian_velocity(torch.zeros(3))
    part = rollout(velocity, plan, torch.randn(len(targets), 3), lambda step: torch.empty(0))
    rollouts = [Rollout(sample=Sample(id=str(i), prompt="", target=target), group=i // 2) for i, target in enumerate(targets)]
    keys = [(0, i // 2, i % 2) for i in range(len(targets))]
    return Collected(plan=plan, rollouts=rollouts, parts=[part], noise=Noise(0), bind=lambda p: velocity, decode=decode, keys=keys)


def test_groups_without_a_pair_are_left_out():
    from vlreward.advantages.group import GroupAdvantage

    collected = collected_of([marked((LEFT, 1, "")), marked((LEFT, 0, "")), {}, marked((LEFT, 0, ""))])
    scores = torch.zeros(4, dtype=torch.float64)
    table = RewardTable(names=("r",), weights=torch.ones(1), scores=scores[:, None], outputs={"r": RewardOutput(scores=scores)})
    RegionDpo().credit(collected, table, GroupAdvantage())
    assert collected.units == [[0, 1]]


def test_it_moves_the_better_region_alone_towards_what_is_preferred():
    """A velocity with a mean of its own for each half learns the better picture's half, and leaves the other as it is."""
    torch.manual_seed(1)
    good, bad = torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), -0.5)
    x0, halves = torch.cat([good, bad]), torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([halves], lr=0.02)
    targets = [marked((LEFT, 1, "")), marked((LEFT, 0, ""))]
    for _ in range(60):
        s, eps = torch.rand(1).expand(2) * 0.6 + 0.2, torch.randn(3, 4, 4)
        x = interpolate(x0, eps, s)
        mean = halves.repeat_interleave(2)
        velocity = lambda x, s, policy="train": (x - (mean if policy == "train" else 0 * mean.detach())) / s.view(-1, 1, 1, 1)  # noqa: B023, E731
        batch = Batch(
            prompts=[""] * 2, step=1, kernel=Ode(), x=x, x_next=x0, s=s, s_next=torch.zeros(2), log_prob=torch.zeros(2), targets=targets,
            advantage=torch.zeros(2), weight=torch.ones(2), group=torch.zeros(2, dtype=torch.int64),
        )  # fmt: skip
        optimizer.zero_grad()
        RegionDpo(strength=5.0).loss(velocity, batch).value.backward()
        optimizer.step()
    assert halves[0] > 0.2
    assert halves[1] == 0
