"""Objectives on renoised rollouts: AWM, reward-weighted regression, best of the group, DPO, DGPO and CRD."""

import math

import pytest
import torch
import torch.nn.functional as F
from gaussian import collected_from, ends, gaussian_velocity, learned, table_of

from vlreward.advantages.group import GroupAdvantage
from vlreward.errors import ConfigError
from vlreward.flow.collect import Batch, Collected
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.objectives.awm import Awm
from vlreward.flow.objectives.best_of_group import BestOfGroup
from vlreward.flow.objectives.crd import Crd
from vlreward.flow.objectives.dgpo import Dgpo
from vlreward.flow.objectives.flow_dpo import FlowDpo
from vlreward.flow.objectives.flow_rwr import FlowRwr
from vlreward.flow.objectives.forward import Forward, error

ALL = [Awm(), Awm(slow_beta=1.0), FlowRwr(), BestOfGroup(), FlowDpo(), Dgpo(), Crd()]


def given(batch: Batch, live: torch.Tensor, other: torch.Tensor):
    """A velocity that is `live` for the live weights and `other` for all others."""
    return lambda x, s, policy="train": live if policy == "train" else other


def slope(objective: Forward, batch: Batch, live: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    live = live.clone().requires_grad_()
    return torch.autograd.grad(objective.loss(given(batch, live, other), batch).value, live)[0]


def matching_slope(batch: Batch, live: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Gradient of sum weight * flow-matching error."""
    live = live.clone().requires_grad_()
    return torch.autograd.grad((weight * error(live, batch)).sum(), live)[0]


def credited(objective: Forward, scores: list[float], errors: list[str | None] | None = None, std: str = "group", **how) -> Collected:
    collected = collected_from(objective, gaussian_velocity(torch.zeros(3)), Ode(), **how)
    objective.credit(collected, table_of(scores, errors or []), GroupAdvantage(std=std))  # type: ignore[arg-type]
    return collected


def rows_of(collected: Collected) -> list[list[int]]:
    [batches] = collected.updates(1, torch.Generator())
    layout = collected.layout()
    assert len(batches) == collected.plan.renoised * len(layout)
    return layout


@pytest.mark.parametrize("objective", ALL, ids=repr)
def test_rollouts_are_made_by_the_ode_whatever_the_kernel(objective):
    plan = collected_from(objective, gaussian_velocity(torch.zeros(3)), FlowSde(), window=2).plan
    assert (plan.policy, plan.noisy, plan.train, plan.renoised) == ("train", (), (), 2)
    assert not plan.kernel.stochastic


@pytest.mark.parametrize("objective", ALL, ids=repr)
def test_a_base_pulls_back_to_it(objective):
    batch, live = ends([0.0, 0.0]), torch.full((2, 4), 0.5)
    held = type(objective)(**{name: value for name, value in vars(objective).items() if not name.startswith("_")} | {"beta": 1.0})
    assert "base" in held.policies
    loss = held.loss(given(batch, live, torch.zeros(2, 4)), batch)
    assert loss.metrics["loss/kl"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    "objective",
    [Awm(clip=1e3), Awm(clip=1e3, weighting="uniform"), Awm(slow_beta=1e-3), FlowRwr(temperature=0.5), BestOfGroup(best=2),
     FlowDpo(strength=20.0), FlowDpo(strength=20.0, refresh=3), Dgpo(strength=20.0), Dgpo(strength=20.0, refresh=3),
     Crd(strength=20.0, refresh=3)],
    ids=repr,
)  # fmt: skip
def test_each_learns_where_the_best_answer_is_known(objective):
    assert learned(objective, Ode(), epochs=40) < 0.25


def test_equal_rewards_teach_nothing_but_what_was_drawn():
    """No gradient where rewards are compared; plain fine-tuning where they weigh."""
    for objective in (Awm(), Dgpo(), Crd()):
        batch, live = ends([0.0, 0.0, 0.0]), torch.full((3, 4), 0.3)
        assert slope(objective, batch, live, live).abs().max() == 0
    scores = [0.5] * 48
    assert rows_of(credited(FlowDpo(), scores)) == rows_of(credited(BestOfGroup(), scores)) == []
    weight = credited(FlowRwr(), scores).weight_BS
    assert weight is not None
    assert torch.allclose(weight, torch.ones_like(weight))


def test_broken_and_missing_rewards_move_nothing():
    scores = [float(i % 5) for i in range(48)]
    scores[2], scores[7] = float("nan"), float("nan")
    errors: list[str | None] = [None] * 48
    errors[7] = "the judge broke"
    for objective in (FlowDpo(), BestOfGroup(best=40)):
        assert not {2, 7} & {row for rows in rows_of(credited(objective, scores, errors)) for row in rows}
    collected = credited(FlowRwr(), scores, errors)
    assert collected.weight_BS is not None
    assert collected.weight_BS[[2, 7]].abs().max() == 0
    assert collected.weight_BS.isfinite().all()
    for objective in (Awm(), Dgpo(), Crd()):
        advantage = credited(objective, scores, errors).advantage_BS
        assert advantage is not None
        assert advantage[[2, 7]].abs().max() == 0


def test_levels_are_drawn_from_equal_parts_of_their_range():
    collected = credited(Dgpo(levels=4, lowest=0.5, highest=0.9), [float(i % 5) for i in range(48)])
    [batches] = collected.updates(1, torch.Generator())
    parts = [{int((level - 0.5) / 0.1 + 1e-6) for level in batch.s.tolist()} for batch in batches]
    assert sorted(part.pop() for part in parts) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert not any(parts), "all rollouts of a batch are noised at levels of one part"
    with pytest.raises(ConfigError, match=r"lowest: is 0\.9, expected less than highest = 0\.9"):
        Dgpo(lowest=0.9, highest=0.9)


# AWM


@pytest.mark.parametrize("weighting", ["uniform", "t", "t2", "huber"])
def test_awm_ratio_is_exactly_one_and_its_gradient_the_weighted_errors_at_the_old_weights(weighting):
    batch, live = ends([1.0, -2.0, 0.5]), torch.full((3, 4), 0.3)
    objective = Awm(weighting=weighting)
    assert objective.loss(given(batch, live, live), batch).metrics["ratio/deviation"] == 0
    free = live.clone().requires_grad_()
    wanted = torch.autograd.grad((batch.advantage * objective.weighed(error(free, batch), batch.s)).mean(), free)[0]
    assert torch.allclose(slope(objective, batch, live, live), wanted, atol=1e-7)


def test_awm_with_equal_advantages_is_fine_tuning():
    batch, live = ends([1.0, 1.0]), torch.full((2, 4), 0.3)
    assert torch.allclose(slope(Awm(weighting="uniform"), batch, live, live), matching_slope(batch, live, torch.full((2,), 0.5)), atol=1e-7)


def test_awm_weighting_by_hand():
    s, value = torch.tensor([0.5]), torch.tensor([0.0081])
    assert Awm(weighting="t2").weighed(value, s).item() == pytest.approx(0.25 * 0.0081)
    assert Awm(power=0.25).weighed(value, s).item() == pytest.approx(0.5 * (0.3 - 1e-10**0.25) / 0.25, rel=1e-5)
    assert Awm(power=0.5).weighed(value, s).item() == pytest.approx(2 * 0.5 * (math.sqrt(0.0081) - 1e-5), rel=1e-5)


def test_awm_slow_weights_hold_back():
    batch, live = ends([0.0]), torch.full((1, 4), 0.5)
    loss = Awm(slow_beta=2.0).loss(given(batch, live, torch.zeros(1, 4)), batch)
    assert loss.metrics["loss/drift"] == pytest.approx(0.25)
    assert loss.value.item() == pytest.approx(0.5, abs=1e-6)
    assert Awm(slow_beta=2.0).policies == {"old", "slow"}


# Reward-weighted regression, best of the group


def test_rwr_weights_are_the_groups_softmax_of_the_reward_and_do_not_mind_a_shift():
    scores = [0.1 * (i % 7) for i in range(48)]
    collected = credited(FlowRwr(temperature=0.2), scores, std="none")
    weight = collected.weight_BS
    assert weight is not None
    for rows in collected.groups():
        wanted = len(rows) * torch.softmax(torch.tensor([scores[row] for row in rows], dtype=torch.float64) / 0.2, 0)
        assert torch.allclose(weight[rows, 1], wanted)
    shifted = credited(FlowRwr(temperature=0.2), [score + 3 for score in scores], std="none").weight_BS
    assert shifted is not None
    assert torch.allclose(shifted, weight)


def test_rwr_loss_is_the_weighted_error():
    batch, live = ends([0.0, 0.0]), torch.full((2, 4), 0.3)
    weighed = Batch(**{**vars(batch), "weight": torch.tensor([1.5, 0.5])})
    assert torch.allclose(slope(FlowRwr(), weighed, live, live), matching_slope(batch, live, torch.tensor([0.75, 0.25])), atol=1e-7)


def test_only_the_best_of_each_group_are_trained_on_and_only_they_cost_anything():
    scores = [float((7 * i) % 24) for i in range(48)]
    objective = BestOfGroup(best=3)
    collected = credited(objective, scores)
    kept = {row for rows in rows_of(collected) for row in rows}
    for rows in collected.groups():
        assert kept & set(rows) == set(sorted(rows, key=lambda row: -scores[row])[:3])
    assert len(kept) == 6
    batch, live = ends([1.0, -1.0]), torch.full((2, 4), 0.3)
    assert torch.allclose(slope(objective, batch, live, live), matching_slope(batch, live, torch.full((2,), 0.5)), atol=1e-7)


# DPO


def test_dpo_is_log_two_at_the_reference_and_pulls_at_half_strength():
    batch, live = ends([1.0, -1.0], [3, 3]), torch.full((2, 4), 0.3)
    objective = FlowDpo(strength=50.0)
    assert objective.loss(given(batch, live, live), batch).value.item() == pytest.approx(math.log(2))
    wanted = matching_slope(batch, live, torch.tensor([12.5, -12.5]))
    assert torch.allclose(slope(objective, batch, live, live), wanted, atol=1e-6)


def test_dpo_loss_by_hand_and_swapping_the_pair_negates_the_logit():
    batch, live, other = ends([1.0, -1.0], [3, 3]), torch.full((2, 4), 0.3), torch.full((2, 4), -0.2)
    straight = (batch.x - batch.x_next) / batch.s[:, None]
    gained = [sum((0.3 - t) ** 2 - (-0.2 - t) ** 2 for t in row) / 4 for row in straight.tolist()]
    logit = -25.0 * (gained[0] - gained[1])
    loss = FlowDpo(strength=50.0).loss(given(batch, live, other), batch).value.item()
    assert loss == pytest.approx(-math.log(1 / (1 + math.exp(-logit))), rel=1e-4)
    back = Batch(**{**vars(batch), **{name: getattr(batch, name).flip(0) for name in ("x", "x_next", "s", "s_next", "group")}})
    swapped = FlowDpo(strength=50.0).loss(given(back, live, other), back).value.item()
    assert loss - swapped == pytest.approx(-logit, rel=1e-4)


def test_dpo_pairs_are_the_best_and_worst_of_a_group_at_one_level_with_one_noise():
    scores = [float((7 * i) % 24) for i in range(48)]
    collected = credited(FlowDpo(levels=3), scores)
    assert [len(rows) for rows in rows_of(collected)] == [4]
    [rows] = collected.layout()
    pairs = [rows[:2], rows[2:]]
    for (best, worst), rows in zip(pairs, collected.groups(), strict=True):
        assert scores[best] == max(scores[row] for row in rows)
        assert scores[worst] == min(scores[row] for row in rows)
    for batch in next(collected.updates(1, torch.Generator())):
        noise = batch.x_next + batch.straight
        assert torch.equal(batch.s[0::2], batch.s[1::2])
        assert torch.allclose(noise[0::2], noise[1::2], atol=1e-5)
        assert not torch.allclose(noise[0], noise[2], atol=1e-2)


# DGPO and CRD


def test_dgpo_gradient_is_that_of_the_groups_preference_likelihood():
    batch = ends([1.5, -1.0, -0.5, 2.0, -2.0], [0, 0, 0, 1, 1])
    live, other = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)), torch.zeros(5, 4)
    found = slope(Dgpo(strength=7.0), batch, live, other)
    free, total = live.clone().requires_grad_(), torch.zeros(())
    for rows in ([0, 1, 2], [3, 4]):
        gained = (error(free, batch) - error(other, batch))[rows]
        z = 7.0 / len(rows) * (batch.advantage[rows] * gained).sum()
        total = total - F.logsigmoid(-z) * len(rows)
    assert torch.allclose(found, torch.autograd.grad(total / 7.0 / 5, free)[0], atol=1e-6)
    assert Dgpo().loss(given(batch, live, live), batch).metrics["share"] == 0.5


def test_crd_is_the_variance_of_the_advantages_at_the_reference_and_nothing_once_fitted():
    batch, live = ends([1.5, -1.0, -0.5]), torch.full((3, 4), 0.3)
    objective = Crd(strength=4.0)
    assert objective.loss(given(batch, live, live), batch).value.item() == pytest.approx((1.5**2 + 1 + 0.25) / 3 / 4)
    wanted = error(live, batch)
    fitted = Batch(**{**vars(batch), "advantage": 4.0 * (error(torch.zeros(3, 4), batch) - wanted)})
    centred = Batch(**{**vars(fitted), "advantage": fitted.advantage - fitted.advantage.mean()})
    assert slope(objective, centred, live, torch.zeros(3, 4)).abs().max() < 1e-5
    found = slope(objective, batch, live, live)
    assert torch.allclose(found, matching_slope(batch, live, 2 * batch.advantage / 3), atol=1e-6)


@pytest.mark.parametrize("objective", [Dgpo(), Crd()], ids=repr)
def test_whole_groups_stay_together(objective):
    collected = credited(objective, [float(i % 5) for i in range(48)], micro_batch=24)
    layout = rows_of(collected)
    assert sorted(row for rows in layout for row in rows) == list(range(48))
    assert all(len({collected.rollouts[row].group for row in rows}) == 1 for rows in layout)


@pytest.mark.parametrize(("count", "sizes"), [(1, [6]), (2, [3, 3]), (4, [1, 2, 1, 2])])
def test_what_is_kept_is_shared_evenly_among_the_updates(count, sizes):
    collected = credited(BestOfGroup(best=3), [float((7 * i) % 24) for i in range(48)], micro_batch=12)
    updates = list(collected.updates(count, torch.Generator()))
    assert sorted(len(rows) for rows in collected.layout(count)) == sorted(sizes)
    assert all(batches for batches in updates)


def test_a_reference_is_the_base_or_follows_after_so_many_epochs():
    seen: list[int] = []

    class Recorder:
        def update(self, name: str, decay: float = 0.0) -> None:
            assert name == "reference"
            seen.append(epoch)

    for epoch in range(9):
        Dgpo(refresh=4).after_epoch(Recorder(), epoch)  # type: ignore[arg-type]
        Dgpo().after_epoch(Recorder(), epoch)  # type: ignore[arg-type]
    assert seen == [3, 7]
    assert FlowDpo().policies == {"base"}
    assert FlowDpo(refresh=2, beta=0.1).policies == {"base", "reference"}
