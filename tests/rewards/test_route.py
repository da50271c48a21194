from dataclasses import dataclass

import pytest
import torch

from vlreward.config import resolved
from vlreward.errors import ConfigError
from vlreward.rewards.base import Reward, walk
from vlreward.rewards.composite import Composite
from vlreward.rewards.route import Route
from vlreward.types import Rollout, Sample

TREE = {"kind": "route", "of": {"color": "exact_match", "count": {"kind": "numeric_match", "absolute": 1}}}


def row(task, text="<answer>red</answer>", answer="red") -> Rollout:
    target = {"answer": answer} | ({"task": task} if task is not None else {})
    return Rollout(sample=Sample(id="s", prompt="p", target=target), text=text)


def test_each_sample_is_judged_by_its_tasks_reward():
    rows = [
        row("count", "<answer>4</answer>", 3),
        row("color"),
        row("count", "<answer>5</answer>", 3),
        row("color", "<answer>blue</answer>"),
    ]
    table = Composite.from_tree([TREE])(rows)
    assert table.total.tolist() == [1, 1, 0, 0]
    output = table.outputs["route"]
    assert output.parts["color"].nan_to_num(-1).tolist() == [-1, 1, -1, 0]
    assert output.notes[1] == "answered 'red', wanted 'red'"


def test_an_unknown_task_is_broken_data_unless_there_is_a_reward_for_the_rest():
    rows = [row("colour"), row("color")]
    output = Composite.from_tree([TREE])(rows).outputs["route"]
    assert output.errors == ["target.task is 'colour', expected one of color, count", None]
    output = Composite.from_tree([TREE | {"otherwise": "answer_format"}])(rows).outputs["route"]
    assert output.scores.tolist() == [1, 1]


def test_a_sample_without_a_task_or_without_what_its_reward_needs_is_nan():
    rows = [row(None), Rollout(sample=Sample(id="s", prompt="p", target={"task": "color"}), text="x")]
    output = Composite.from_tree([TREE])(rows).outputs["route"]
    assert output.scores.isnan().all()
    assert output.errors == [None, None]


def test_an_error_of_one_task_costs_its_own_rows():
    output = Composite.from_tree([TREE])([row("color", answer=""), row("color"), row("count", "<answer>3</answer>", 3)]).outputs["route"]
    assert output.broken.tolist() == [True, False, False]
    assert output.scores[1:].tolist() == [1, 1]


def test_scores_do_not_depend_on_the_batch_or_its_order():
    rows = [row("color"), row("count", "<answer>9</answer>", 3), row("color", "<answer>x</answer>"), row("count", "<answer>3</answer>", 3)]
    composite = Composite.from_tree([TREE])
    together = composite(rows).total
    assert torch.equal(together, torch.cat([composite([one]).total for one in rows]))
    assert torch.equal(together.flip(0), composite(rows[::-1]).total)


def test_bounds_scope_and_gradient_are_those_of_the_rewards_in_it():
    @dataclass(kw_only=True)
    class Grouped(Reward):
        bounds = (-2.0, 0.5)
        scope = "group"
        differentiable = True

    route = Route(of={"a": Grouped()})
    assert (route.bounds, route.scope, route.differentiable) == ((-2.0, 0.5), "group", True)
    [term] = Composite.from_tree([TREE | {"otherwise": "repetition"}]).terms
    assert (term.reward.bounds, term.reward.scope, term.reward.differentiable) == ((-1.0, 1.0), "rollout", False)


def test_its_rewards_are_found_and_it_reads_back_from_its_own_tree():
    composite = Composite.from_tree([TREE | {"otherwise": "answer_format"}])
    assert [reward.kind for reward in walk(composite.terms[0].reward)] == ["route", "exact_match", "numeric_match", "answer_format"]
    assert resolved(Composite.from_tree(composite.to_tree())) == resolved(composite)


def test_wrong_routes_are_refused_with_their_place():
    with pytest.raises(ConfigError, match=r"rewards\.0\.of: is empty"):
        Composite.from_tree([{"kind": "route", "of": {}}])
    with pytest.raises(ConfigError, match=r"rewards\.0\.of\.x\.kind: no reward is called 'nothing_such'"):
        Composite.from_tree([{"kind": "route", "of": {"x": "nothing_such"}}])
