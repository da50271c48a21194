"""Values by hand, gradient signs, and learning where the best answer is known."""

import pytest
import torch

from vlreward.advantages.group import GroupAdvantage
from vlreward.flow.collect import Batch, Collected, collect
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.math import sigmas
from vlreward.flow.objectives.flow_grpo import FlowGrpo
from vlreward.flow.plan import Noise, Plan
from vlreward.types import RewardOutput, RewardTable, Rollout, Sample


def batch_of(velocity, advantage: torch.Tensor, size: int = 5) -> Batch:
    """Transitions sampled with `velocity`."""
    torch.manual_seed(0)
    kernel, x = FlowSde(noise=0.7), torch.randn(size, 4)
    s, s_next = torch.full((size,), 0.6), torch.full((size,), 0.4)
    step = kernel(x, velocity(x, s).detach(), s, s_next)
    x_next = step.sample(torch.randn_like(x))
    return Batch(
        prompts=[""] * size, step=1, kernel=kernel, x=x, x_next=x_next, s=s, s_next=s_next,
        log_prob=step.log_prob(x_next), advantage=advantage, weight=torch.ones(size),
        group=torch.zeros(size, dtype=torch.int64),
    )  # fmt: skip


def shift_velocity(shift: torch.Tensor, base: float = 0.0):
    """v = shift for the live weights, `base` for the base."""
    return lambda x, s, policy="train": (shift if policy == "train" else torch.full_like(shift, base)) + 0 * x


def slope(weight: torch.Tensor) -> torch.Tensor:
    """Its gradient."""
    assert weight.grad is not None
    return weight.grad


def tensor(rollout: Rollout) -> torch.Tensor:
    assert rollout.made is not None
    return rollout.made.tensor


def credited(objective: FlowGrpo, collected: Collected, table: RewardTable) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages and weights, both [B,S]."""
    objective.credit(collected, table, GroupAdvantage())
    assert collected.advantage_BS is not None
    assert collected.weight_BS is not None
    return collected.advantage_BS, collected.weight_BS


def table_of(scores: list[float], errors: list[str | None] | None = None) -> RewardTable:
    output = RewardOutput(scores=torch.tensor(scores, dtype=torch.float64), errors=errors or [])
    return RewardTable(
        names=("r",), weights=torch.ones(1, dtype=torch.float64), scores=torch.stack([output.scores], 1), outputs={"r": output}
    )


def test_before_the_first_update_ratio_is_one_and_loss_is_minus_the_mean_advantage():
    """S6"""
    advantage = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0])
    shift = torch.zeros(4, requires_grad=True)
    batch = batch_of(shift_velocity(shift), advantage)
    loss = FlowGrpo(clip=1e-4).loss(shift_velocity(shift), batch)
    assert loss.value.item() == pytest.approx(-advantage.mean().item())
    assert loss.metrics["ratio/deviation"] == 0
    assert loss.metrics["clip_fraction"] == 0
    log_prob = batch.kernel(batch.x, shift + 0 * batch.x, batch.s, batch.s_next).log_prob(batch.x_next)
    wanted = torch.autograd.grad(-(advantage * log_prob).mean(), shift)[0]
    assert torch.allclose(torch.autograd.grad(loss.value, shift)[0], wanted, atol=1e-7)


def test_loss_after_a_move_equals_the_literal_loop():
    advantage = torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0])
    old, new = torch.zeros(4), torch.full((4,), 0.3, requires_grad=True)
    batch = batch_of(shift_velocity(old), advantage)
    loss = FlowGrpo(clip=0.01).loss(shift_velocity(new), batch)
    total, outside = 0.0, 0
    for i in range(5):
        rows = slice(i, i + 1)
        step = batch.kernel(batch.x[rows], new.detach() + 0 * batch.x[rows], batch.s[rows], batch.s_next[rows])
        ratio = float((step.log_prob(batch.x_next[rows]) - batch.log_prob[rows]).exp())
        a = float(advantage[i])
        total += max(-a * ratio, -a * min(max(ratio, 0.99), 1.01)) / 5
        outside += (a > 0 and ratio > 1.01) or (a < 0 and ratio < 0.99)
    assert loss.value.item() == pytest.approx(total, rel=1e-5)
    assert loss.metrics["clip_fraction"] == pytest.approx(outside / 5)
    assert outside > 0


def test_clipped_rows_give_no_gradient():
    advantage = torch.ones(5)
    new = torch.full((4,), 0.3, requires_grad=True)
    batch = batch_of(shift_velocity(torch.zeros(4)), advantage)
    step = batch.kernel(batch.x, new + 0 * batch.x, batch.s, batch.s_next)
    ratio = (step.log_prob(batch.x_next) - batch.log_prob).exp()
    FlowGrpo(clip=0.01).loss(shift_velocity(new), batch).value.backward()
    free = ratio[ratio < 1.01]
    wanted = torch.autograd.grad(-free.sum() / 5, new)[0]
    assert 0 < len(free) < 5
    assert torch.allclose(slope(new), wanted, atol=1e-7)


def test_a_step_along_the_gradient_makes_the_better_rollout_likelier():
    shift = torch.zeros(4, requires_grad=True)
    batch = batch_of(shift_velocity(shift), torch.tensor([2.0, -0.5, -0.5, -0.5, -0.5]))
    FlowGrpo().loss(shift_velocity(shift), batch).value.backward()
    with torch.no_grad():
        moved = shift - 0.1 * slope(shift) / slope(shift).norm()
        new = batch.kernel(batch.x, moved + 0 * batch.x, batch.s, batch.s_next).log_prob(batch.x_next)
    change = (new - batch.log_prob) * batch.advantage
    assert change.sum() > 0


def test_divergence_pulls_back_to_the_base_once_the_weights_have_moved():
    """S8: zero with zero gradient at the base, positive with a gradient away from it."""
    objective = FlowGrpo(beta=0.5)
    assert objective.policies == {"base"}
    for value in (0.0, 0.4):
        shift = torch.full((4,), value, requires_grad=True)
        loss = objective.loss(shift_velocity(shift), batch_of(shift_velocity(shift), torch.zeros(5)))
        loss.value.backward()
        if value:
            assert loss.metrics["loss/kl"] > 0
            assert (slope(shift) > 0).all()
        else:
            assert loss.metrics["loss/kl"] == 0
            assert slope(shift).abs().max() == 0


def test_published_units_scale_the_divergence_by_the_step():
    shift = torch.full((4,), 0.4)
    batch = batch_of(shift_velocity(shift), torch.zeros(5))
    true, published = (FlowGrpo(beta=1.0, kl_units=u).loss(shift_velocity(shift), batch).metrics["loss/kl"] for u in ("true", "flow_grpo"))
    assert published == pytest.approx(true * 0.2, rel=1e-5)


WIDTH = 0.3
"""Standard deviation of the Gaussian generator's data."""


def gaussian_velocity(mean: torch.Tensor):
    """The exact velocity of data N(mean, WIDTH^2)."""

    def velocity(x: torch.Tensor, s: torch.Tensor, policy: str = "train") -> torch.Tensor:
        s = s[:, None]
        k = (s - (1 - s) * WIDTH**2) / ((1 - s) ** 2 * WIDTH**2 + s**2)
        return k * (x - (1 - s) * mean) - mean

    return velocity


def collected_from(mean: torch.Tensor, epoch: int, size: int = 24, steps: int = 5) -> Collected:
    """Rollouts of the Gaussian generator."""

    def bind(prompts):
        return gaussian_velocity(mean)

    trained = tuple(range(steps - 1))
    plan = Plan(sigmas=sigmas(steps), kernel=FlowSde(noise=0.7), noisy=trained, train=trained)
    samples = [Sample(id=str(i), prompt="") for i in range(2)]

    def decode(x0: torch.Tensor) -> torch.Tensor:
        return x0[:, :, None, None].expand(-1, 3, 1, 1)

    return collect(bind, decode, plan, (3,), samples, Noise(1), epoch=epoch, size=size, micro_batch=12)


def test_each_trained_step_gets_its_rollouts_advantage():
    collected = collected_from(torch.zeros(3), 0)
    table = table_of([tensor(r).mean().item() for r in collected.rollouts])
    advantage, weight = credited(FlowGrpo(), collected, table)
    assert advantage.shape == (48, 4)
    assert advantage.dtype == torch.float64
    assert torch.equal(advantage[:, 0], advantage[:, 3])
    assert advantage.abs().max() > 1
    for group in (0, 1):
        assert advantage[collected.group_B == group, 0].sum().abs() < 1e-9
    assert (weight == 1).all()


def test_noise_weighting_follows_the_kernels_width():
    collected = collected_from(torch.zeros(3), 0)
    _, weight = credited(FlowGrpo(step_weight="noise"), collected, table_of([0.0] * 48))
    plan = collected.plan
    one = torch.zeros(1, 1)
    std = [plan.kernel(one, one, plan.sigmas[i : i + 1], plan.sigmas[i + 1 : i + 2]).std.item() for i in plan.train]
    wanted = torch.tensor([value / (sum(std) / len(std)) for value in std])
    assert torch.allclose(weight[7], wanted)


def test_broken_and_missing_rewards_get_advantage_zero_and_stay_out_of_their_group():
    collected = collected_from(torch.zeros(3), 0, size=6)
    scores = [float(i % 5) for i in range(12)]
    scores[2], scores[7] = float("nan"), float("nan")
    errors: list[str | None] = [None] * 12
    errors[7] = "the judge broke"
    advantage = credited(FlowGrpo(), collected, table_of(scores, errors))[0][:, 0]
    assert advantage[2] == advantage[7] == 0
    assert advantage.isfinite().all()
    for group in (0, 1):
        assert advantage[collected.group_B == group].sum().abs() < 1e-9


def test_learning_moves_the_pictures_to_where_the_reward_is():
    """The Gaussian generator learns to put its mean where a quadratic reward is highest."""
    point = torch.nn.Parameter(torch.zeros(3))
    wanted, objective = torch.tensor([0.4, -0.3, 0.2]), FlowGrpo(clip=1e-2, step_weight="noise")
    optimizer = torch.optim.Adam([point], lr=0.03)
    first = ((point - wanted) ** 2).sum().item()
    for epoch in range(40):
        collected = collected_from(point.detach(), epoch)
        table = table_of([-((tensor(r).flatten() - wanted) ** 2).sum().item() for r in collected.rollouts])
        objective.credit(collected, table, GroupAdvantage())
        for batches in collected.updates(1, torch.Generator().manual_seed(epoch)):
            optimizer.zero_grad()
            for batch in batches:
                loss = objective.loss(gaussian_velocity(point), batch)
                (loss.value / len(batches)).backward()
            optimizer.step()
    assert ((point - wanted) ** 2).sum().item() < 0.2 * first
