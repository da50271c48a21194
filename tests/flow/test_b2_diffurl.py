"""B2-DiffuRL: which steps and which rollouts are trained on."""

import pytest
import torch
from gaussian import collected_from, gaussian_velocity, learned, table_of

from vlreward.advantages.group import GroupAdvantage
from vlreward.errors import ConfigError
from vlreward.flow.collect import Collected
from vlreward.flow.kernels.cps import Cps
from vlreward.flow.kernels.flow_sde import FlowSde
from vlreward.flow.math import sigmas
from vlreward.flow.objectives.b2_diffurl import B2Diffurl
from vlreward.flow.processes import Processes
from vlreward.flow.sampler import Sampler, Schedule

VELOCITY = gaussian_velocity(torch.tensor([0.1, -0.2, 0.3]))


def plan_of(objective: B2Diffurl, epoch: int, steps: int = 20):
    return objective.plan(Sampler(kernel=FlowSde(), schedule=Schedule(steps=steps)), sigmas(steps, shift=3.0), epoch, 7)


def chosen(objective: B2Diffurl, score, epoch: int = 0) -> tuple[Collected, list[int]]:
    """Rollouts of two groups of 6, scored by their rank in the group, and those that are trained on."""
    collected = collected_from(objective, VELOCITY, FlowSde(), epoch, size=6, micro_batch=6, steps=6)
    scores = [0.0] * 12
    for group, rows in enumerate(sorted(collected.groups(), key=lambda rows: collected.rollouts[rows[0]].group)):
        for place, row in enumerate(rows):
            scores[row] = score(group, place)
    table = table_of(scores)
    objective.credit(collected, table, GroupAdvantage())
    objective.choose(collected, table)
    assert collected.units is not None
    return collected, [row for unit in collected.units for row in unit]


def test_stages_begin_with_the_last_steps_and_only_ever_add_earlier_ones():
    objective = B2Diffurl(first=6, grow=3, stage=2)
    plans = [plan_of(objective, epoch) for epoch in range(14)]
    assert [plan.branch for plan in plans] == [13, 13, 10, 10, 7, 7, 4, 4, 1, 1, 0, 0, 0, 0]
    for plan in plans:
        assert plan.branch is not None
        assert plan.train == plan.noisy == tuple(range(plan.branch, 19))


def test_branches_are_one_rollout_up_to_the_first_trained_step_and_differ_after_it():
    collected, _ = chosen(B2Diffurl(first=2), lambda group, place: place)
    assert collected.plan.train == (3, 4)
    x = torch.cat([part.x for part in collected.parts])
    for rows in collected.groups():
        assert all(torch.equal(x[row, 0], x[rows[0], 0]) for row in rows)
        assert len({tuple(x[row, 1].tolist()) for row in rows}) == 6


def test_only_the_outstanding_best_and_worst_of_a_group_are_trained_on():
    collected, rows = chosen(B2Diffurl(first=2), lambda group, place: place if group else 2.5 + 0.1 * place)
    assert len(rows) == 4
    collected, rows = chosen(B2Diffurl(first=2, threshold=1.4), lambda group, place: float(place == 3))
    assert all(collected.advantage_BS[row, 0] > 0 for row in rows)
    assert len(rows) == 2, "the best stands out, the worst is one of many"
    groups = [collected.rollouts[row].group for row in rows]
    assert sorted(groups) == [0, 1]
    assert chosen(B2Diffurl(first=2), lambda group, place: 1.0)[1] == []


def test_rows_that_are_not_chosen_are_not_computed_on():
    collected, rows = chosen(B2Diffurl(first=2), lambda group, place: place)
    [batches] = collected.updates(1, torch.Generator().manual_seed(0))
    assert [len(batch.x) for batch in batches] == [6, 6], "one micro-batch of two steps in place of two"
    assert sum(int((batch.advantage != 0).sum()) for batch in batches) == 2 * len(rows) == 8


def test_a_prompts_reward_is_measured_against_its_past_epochs():
    objective = B2Diffurl(first=2, history=2)
    chosen(objective, lambda group, place: 10.0 + place)
    collected, rows = chosen(objective, lambda group, place: 0.1 * place, 1)
    assert collected.advantage_BS is not None
    assert rows
    assert all(collected.advantage_BS[row, 0] < 0 for row in rows), "the best of a bad epoch does not stand out"
    assert len(chosen(objective, lambda group, place: 0.1 * place, 2)[1]) == 4, "the first epoch is forgotten after two"
    assert {len(parts) for parts in objective.rewards.values()} == {2}


def test_rewards_seen_are_kept_and_put_back():
    objective, other = B2Diffurl(first=2), B2Diffurl(first=2)
    chosen(objective, lambda group, place: place)
    other.load_state_dict(objective.state_dict())
    assert other.rewards == objective.rewards != {}
    objective.prepare((3,), lambda prompts: {}, Processes("cpu"), 0)
    assert objective.rewards == {}


def test_rollouts_without_a_reward_are_never_chosen():
    collected, rows = chosen(B2Diffurl(first=2), lambda group, place: float("nan") if place in (0, 5) else place)
    total = {row: place for group in collected.groups() for place, row in enumerate(group)}
    assert sorted(total[row] for row in rows) == [1, 1, 4, 4]
    assert chosen(B2Diffurl(first=2), lambda group, place: float("nan"))[1] == []


def test_more_steps_than_there_are_and_a_second_choice_are_refused():
    with pytest.raises(ConfigError, match="at most the 19 steps") as error:
        plan_of(B2Diffurl(first=20), 0)
    assert error.value.key == "objective.first"
    with pytest.raises(ConfigError, match="chooses rollouts itself"):
        B2Diffurl(best_worst=2).check(6)


@pytest.mark.parametrize("kernel", [FlowSde(), Cps()], ids=repr)
def test_it_learns_where_the_best_answer_is_known(kernel):
    assert learned(B2Diffurl(first=2, grow=1, stage=5), kernel, epochs=40, size=12, micro_batch=12) < 0.3
