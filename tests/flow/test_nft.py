"""The forward process: renoised rollouts, the two-sided loss, and what `old` does."""

import pytest
import torch

from vlreward.advantages.group import GroupAdvantage
from vlreward.flow.collect import Batch, Collected, collect
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.kernels.ode import Ode
from vlreward.flow.math import interpolate, sigmas
from vlreward.flow.objectives.nft import Nft, normalized
from vlreward.flow.plan import Noise, Plan
from vlreward.flow.sampler import Sampler, Schedule
from vlreward.types import RewardOutput, RewardTable, Sample

WIDTH = 0.3


def batch_of(advantage: list[float]) -> Batch:
    """Renoised ends of rollouts."""
    torch.manual_seed(0)
    size = len(advantage)
    x0, s = torch.randn(size, 4), torch.linspace(0.2, 0.9, size)
    return Batch(
        prompts=[""] * size, step=4, kernel=Ode(), x=interpolate(x0, torch.randn(size, 4), s), x_next=x0, s=s, s_next=torch.zeros(size),
        log_prob=torch.zeros(size), advantage=torch.tensor(advantage), weight=torch.ones(size),
        group=torch.zeros(size, dtype=torch.int64),
    )  # fmt: skip


def gradient(objective: Nft, batch: Batch, live: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    """[B,4] of the loss with respect to the live velocity."""
    live = live.clone().requires_grad_()
    loss = objective.loss(lambda x, s, policy="train": live if policy == "train" else old, batch)
    return torch.autograd.grad(loss.value, live)[0]


def gaussian_velocity(mean: torch.Tensor):
    """The exact velocity of data N(mean, WIDTH^2)."""

    def velocity(x: torch.Tensor, s: torch.Tensor, policy: str = "train") -> torch.Tensor:
        s = s[:, None]
        k = (s - (1 - s) * WIDTH**2) / ((1 - s) ** 2 * WIDTH**2 + s**2)
        at = mean if policy == "train" else mean.detach()
        return k * (x - (1 - s) * at) - at

    return velocity


def collected_from(mean: torch.Tensor, epoch: int = 0, size: int = 24, micro_batch: int = 12, levels: int = 3) -> Collected:
    plan = Plan(sigmas=sigmas(5), kernel=Ode(), policy="old", renoised=levels)
    samples = [Sample(id=str(i), prompt="") for i in range(2)]

    def decode(x0: torch.Tensor) -> torch.Tensor:
        return x0[:, :, None, None].expand(-1, 3, 1, 1)

    velocity = gaussian_velocity(mean)
    return collect(lambda prompts: velocity, decode, plan, (3,), samples, Noise(1), epoch=epoch, size=size, micro_batch=micro_batch)


def credited(collected: Collected, scores: list[float]) -> Collected:
    output = RewardOutput(scores=torch.tensor(scores, dtype=torch.float64))
    table = RewardTable(names=("r",), weights=torch.ones(1, dtype=torch.float64), scores=output.scores[:, None], outputs={"r": output})
    Nft().credit(collected, table, GroupAdvantage())
    return collected


def test_a_rollout_of_average_reward_gives_no_gradient_at_the_old_weights():
    batch = batch_of([0.0, 0.0, 0.0])
    assert gradient(Nft(), batch, torch.ones(3, 4), torch.ones(3, 4)).abs().max() == 0


def test_the_best_rollout_gives_the_gradient_of_flow_matching_and_the_worst_its_negative():
    batch, live = batch_of([5.0, -5.0]), torch.full((2, 4), 0.3)
    got = gradient(Nft(clip=5.0), batch, live, live)
    free = live.clone().requires_grad_()
    matching = torch.autograd.grad(normalized(free - batch.straight, batch.s).sum(), free)[0]
    assert torch.allclose(got, 5 * torch.tensor([[0.5], [-0.5]]) * matching, atol=1e-6)


def test_loss_is_the_formula_by_hand():
    batch = batch_of([2.0])
    live, old = torch.tensor([[0.1, 0.2, -0.3, 0.0]]), torch.tensor([[0.3, 0.0, 0.1, -0.2]])
    loss = Nft(clip=4.0, strength=0.5).loss(lambda x, s, policy="train": live if policy == "train" else old, batch)
    s, wanted, total = 0.2, (batch.x[0] - batch.x_next[0]) / 0.2, 0.0
    for part, sign in ((0.75, 1), (0.25, -1)):
        off = [s * float(old[0, i] + sign * 0.5 * (live[0, i] - old[0, i]) - wanted[i]) for i in range(4)]
        total += part * (sum(o * o for o in off) / 4) / (sum(map(abs, off)) / 4)
    assert loss.value.item() == pytest.approx(total * 4.0 / 0.5, rel=1e-5)


def test_loss_with_a_base_pulls_back_to_it():
    objective, batch = Nft(beta=1.0), batch_of([0.0])
    assert objective.policies == {"old", "base"}
    at = {"train": torch.full((1, 4), 0.5, requires_grad=True), "old": torch.full((1, 4), 0.5), "base": torch.zeros(1, 4)}
    loss = objective.loss(lambda x, s, policy="train": at[policy], batch)
    assert loss.metrics["loss/kl"] == pytest.approx(0.25)
    assert (torch.autograd.grad(loss.value, at["train"])[0] > 0).all()


def test_renoised_levels_fill_the_unit_interval_and_lead_straight_to_the_rollouts_end():
    collected = credited(collected_from(torch.zeros(3)), [float(i) for i in range(48)])
    [batches] = collected.updates(1, torch.Generator())
    assert len(batches) == 4 * 3
    assert torch.cat([b.s for b in batches]).mul(3).long().bincount().tolist() == [48, 48, 48]
    for batch in batches:
        assert torch.allclose(interpolate(batch.x_next, batch.x_next + batch.straight, batch.s), batch.x, atol=1e-6)
        assert (batch.s_next == 0).all()
    noise = torch.cat([b.x_next + b.straight for b in batches])
    assert noise.std().item() == pytest.approx(1, abs=0.1)


def test_renoising_does_not_depend_on_the_batch_size():
    def found(micro_batch: int) -> torch.Tensor:
        collected = credited(collected_from(torch.zeros(3), micro_batch=micro_batch), [0.0] * 48)
        [batches] = collected.updates(1, torch.Generator())
        rows = torch.cat([torch.cat([b.x_next, b.x, b.s[:, None]], 1) for b in batches])
        return rows[rows[:, 6].argsort()]

    assert torch.allclose(found(12), found(24), atol=1e-6)


def test_plan_samples_with_the_old_weights_and_no_noise_whatever_the_kernel():
    sampler = Sampler(kernel=FlowSde(), schedule=Schedule(steps=4, window=2))
    plan = Nft(levels=3).plan(sampler, sigmas(4), epoch=0, seed=0)
    assert (plan.policy, plan.noisy, plan.train, plan.renoised) == ("old", (), (), 3)
    assert not plan.kernel.stochastic


def test_old_weights_follow_as_the_schedule_says():
    seen: list[float] = []

    class Recorder:
        def update(self, name: str, decay: float) -> None:
            assert name == "old"
            seen.append(decay)

    for epoch in (0, 10, 900):
        Nft().after_epoch(Recorder(), epoch)  # type: ignore[arg-type]
    assert seen == [0, pytest.approx(0.01), 0.5]
    seen.clear()
    for epoch in (0, 75, 76, 500):
        Nft(growth=0.0075, most=0.999, wait=75).after_epoch(Recorder(), epoch)  # type: ignore[arg-type]
    assert seen == [0, 0, pytest.approx(0.0075), 0.999]


def test_learning_moves_the_pictures_to_where_the_reward_is():
    point, wanted, objective = torch.nn.Parameter(torch.zeros(3)), torch.tensor([0.4, -0.3, 0.2]), Nft()
    optimizer = torch.optim.Adam([point], lr=0.03)
    first = ((point - wanted) ** 2).sum().item()
    for epoch in range(30):
        collected = collected_from(point, epoch)
        scores = [-((r.made.tensor.flatten() - wanted) ** 2).sum().item() for r in collected.rollouts]  # type: ignore[union-attr]
        for batches in credited(collected, scores).updates(1, torch.Generator().manual_seed(epoch)):
            optimizer.zero_grad()
            for batch in batches:
                (objective.loss(gaussian_velocity(point), batch).value / len(batches)).backward()
            optimizer.step()
    assert ((point - wanted) ** 2).sum().item() < 0.2 * first
