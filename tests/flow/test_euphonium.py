"""Euphonium: sampling led by a latent reward's gradient, and what the policy is credited with."""

import pytest
import torch
from gaussian import closeness, collected_from, gaussian_velocity, learned, table_of

from vlreward.advantages.group import GroupAdvantage
from vlreward.flow.collect import Collected
from vlreward.flow.kernels.dance import Dance
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.latent_reward import Learning
from vlreward.flow.objectives.euphonium import Euphonium
from vlreward.flow.objectives.flow_grpo import FlowGrpo
from vlreward.flow.processes import Processes

VELOCITY = gaussian_velocity(torch.tensor([0.1, -0.2, 0.3]))
ALONG = torch.tensor([1.0, -2.0, 0.5])


def prepared(**settings) -> Euphonium:
    objective = Euphonium(
        **({"warmup": 0, "guided_from": 0.0, "guidance": 0.3, "critic": Learning(width=8, updates=2, pairs=8)} | settings)
    )
    objective.prepare((3,), lambda prompts: {"words": torch.ones(len(prompts), 2)}, Processes("cpu"), 0)
    return objective


def straight(objective: Euphonium, monkeypatch) -> None:
    """A latent reward <ALONG, x> in place of the learned one."""
    monkeypatch.setattr(objective.learner.model, "forward", lambda x, s, condition: x @ ALONG)


def stored(collected: Collected, name: str) -> torch.Tensor:
    return torch.cat([getattr(part, name) for part in collected.parts])


def test_a_linear_reward_pushes_each_guided_step_by_exactly_its_share_and_the_ratio_stays_that_of_the_unguided_step(monkeypatch):
    objective = prepared(guided_from=0.4)
    straight(objective, monkeypatch)
    pushed = collected_from(objective, VELOCITY, Dance())
    assert pushed.plan.guided == (2, 3)
    plain = collected_from(FlowGrpo(), VELOCITY, Dance())
    assert torch.equal(stored(pushed, "x")[:, :3], stored(plain, "x")[:, :3])
    assert torch.allclose(stored(pushed, "x_next")[:, 2] - stored(plain, "x_next")[:, 2], (0.3 * 0.2 * ALONG).expand(48, 3), atol=1e-6)
    pushed.advantage_BS = pushed.weight_BS = torch.ones(48, 4)
    for batch in next(iter(pushed.updates(1, torch.Generator()))):
        step = batch.kernel(batch.x, VELOCITY(batch.x, batch.s), batch.s, batch.s_next)
        assert torch.equal(step.log_prob(batch.x_next), batch.log_prob)


def test_a_normalized_gradient_has_the_same_size_however_sure_the_reward_is(monkeypatch):
    objective = prepared(normalized=True)
    straight(objective, monkeypatch)
    pushed, plain = (collected_from(o, VELOCITY, Dance()) for o in (objective, FlowGrpo()))
    moved = stored(pushed, "x_next")[:, 0] - stored(plain, "x_next")[:, 0]
    assert torch.allclose(moved, (0.3 * 0.2 * ALONG / ALONG.square().mean().sqrt()).expand(48, 3), atol=1e-6)


@pytest.mark.parametrize("settings", [{"guidance": 0.0}, {"warmup": 1}])
def test_without_guidance_and_before_it_rollouts_are_flow_grpos_to_the_last_bit(settings):
    pushed, plain = (collected_from(o, VELOCITY, Dance()) for o in (prepared(**settings), FlowGrpo()))
    for name in ("x", "x_next", "log_prob", "x0"):
        assert torch.equal(stored(pushed, name), stored(plain, name))
    assert prepared(warmup=1).knows(1)
    assert not prepared(warmup=1).knows(0)


def test_no_gradient_of_the_push_reaches_the_policy(monkeypatch):
    point = torch.zeros(3, requires_grad=True)
    collected = collected_from(prepared(), gaussian_velocity(point), Dance())
    assert not stored(collected, "x_next").requires_grad


def test_credit_is_the_outcomes_and_that_of_the_latent_reward_after_each_step(monkeypatch):
    objective, advantage = prepared(outcome=0.5, process=2.0), GroupAdvantage()
    straight(objective, monkeypatch)
    collected = collected_from(objective, VELOCITY, FlowSde())
    table = objective.score(collected, closeness)
    objective.learner.learn = lambda *given: {}  # type: ignore[method-assign]
    objective.credit(collected, table, advantage)
    assert collected.advantage_BS is not None
    own = advantage(table, collected.group_B)
    for j in range(4):
        value = (stored(collected, "x_next")[:, j] @ ALONG).double()
        for rows in collected.groups():
            part = (value[rows] - value[rows].mean()) / (value[rows].std() + 1e-4)
            assert torch.allclose(collected.advantage_BS[rows, j], 0.5 * own[rows] + 2.0 * part, atol=1e-4)


def test_a_rollout_whose_judge_broke_has_no_credit_of_either_kind():
    objective = prepared()
    collected = collected_from(objective, VELOCITY, FlowSde())
    objective.score(collected, closeness)
    scores = closeness(collected.rollouts).total.tolist()
    objective.credit(collected, table_of([float("nan"), *scores[1:]], ["broke", *[None] * 47]), GroupAdvantage())
    assert collected.advantage_BS is not None
    assert (collected.advantage_BS[0] == 0).all()
    assert (collected.advantage_BS[1] != 0).all()


def test_its_state_is_the_latent_rewards_and_is_written_beside_the_policy(tmp_path):
    objective, other = prepared(), prepared(critic=Learning(width=8, updates=2, pairs=8, lr=0.1))
    collected = collected_from(objective, VELOCITY, FlowSde())
    objective.credit(collected, objective.score(collected, closeness), GroupAdvantage())
    assert 0 <= objective.figures()["latent_reward/accuracy"] <= 1
    other.load_state_dict(objective.state_dict())
    pairs = zip(objective.learner.model.parameters(), other.learner.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    objective.export(tmp_path)
    started = prepared(warmup=5, critic=Learning(start=tmp_path / "latent_reward"))
    assert started.knows(0), "one that was learned before is asked at once"


@pytest.mark.parametrize("guidance", [0.0, 0.5])
def test_it_learns_where_the_best_answer_is_known(guidance):
    objective = Euphonium(clip=1e-2, guidance=guidance, guided_from=0.0, warmup=3, critic=Learning(width=16, updates=5, pairs=32, lr=1e-2))
    assert learned(objective, Dance(noise=0.6), epochs=30, lr=0.05) < 0.3
