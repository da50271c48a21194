import pytest
import torch

from vlreward.config import resolved
from vlreward.errors import ConfigError
from vlreward.rewards.composite import Composite

FORMAT = {"kind": "answer_format"}
RIGHT = {"kind": "exact_match"}


def scores(tree, rollouts):
    return Composite.from_tree(tree)(rollouts)


@pytest.fixture
def answers(rollout):
    texts = ["<answer>red</answer>", "<answer>blue</answer>", "it is <answer>red</answer>", "red"]
    return [rollout(text, answer="red") for text in texts]


def test_terms_stand_side_by_side_and_add_up_by_weight(answers):
    table = scores([RIGHT | {"weight": 2.0}, FORMAT | {"weight": 0.5, "name": "form"}], answers)
    assert table.names == ("exact_match", "form")
    assert table.scores.tolist() == [[1, 1], [0, 1], [1, 0], [0, 0]]
    assert table.total.tolist() == [2.5, 0.5, 2.0, 0.0]


def test_a_gate_gives_nothing_to_what_does_not_pass_and_asks_only_about_the_rest(answers):
    table = scores([{"kind": "gate", "when": FORMAT, "then": RIGHT}], answers)
    assert table.total.tolist() == [1, 0, 0, 0]
    assert table.outputs["gate"].parts["gate"].tolist() == [1, 1, 0, 0]


def test_a_gate_is_nan_where_its_condition_does_not_apply(rollout):
    table = scores([{"kind": "gate", "when": RIGHT, "then": FORMAT}], [rollout("<answer>red</answer>")])
    assert table.total.isnan().all()


def test_product_and_minimum_need_every_factor(answers):
    for kind in ("product", "minimum"):
        assert scores([{"kind": kind, "of": [RIGHT, FORMAT]}], answers).total.tolist() == [1, 0, 0, 0]


def test_an_error_inside_of_a_combinator_breaks_the_row(rollout):
    rows = [rollout("<answer>red</answer>", answer=""), rollout("<answer>red</answer>", answer="red")]
    for tree in ({"kind": "product", "of": [RIGHT, FORMAT]}, {"kind": "gate", "when": FORMAT, "then": RIGHT}):
        table = scores([tree], rows)
        assert table.broken.tolist() == [True, False]
        assert table.total.isnan().tolist() == [True, False]
        assert "target.answer" in table.errors(0)[0]


def test_a_broken_term_makes_the_whole_row_nan(rollout):
    table = scores([RIGHT, FORMAT], [rollout("<answer>red</answer>", answer="")])
    assert table.total.isnan().all()
    assert table.scores[0, 1] == 1.0


def test_scores_do_not_depend_on_the_batch(answers):
    tree = [RIGHT, {"kind": "gate", "when": FORMAT, "then": RIGHT}]
    together = scores(tree, answers).scores
    alone = torch.cat([scores(tree, [answer]).scores for answer in answers])
    assert torch.equal(together, alone)


def test_a_composite_reads_back_from_its_own_tree():
    composite = Composite.from_tree([{"kind": "gate", "when": FORMAT, "then": RIGHT, "weight": 3}, {"kind": "box_iou", "floor": 0.5}])
    again = Composite.from_tree(composite.to_tree())
    assert resolved(again) == resolved(composite)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([], "at least one"),
        ([{"weight": 1}], "'kind'"),
        ([{"kind": "product", "of": [RIGHT]}], "expected at least 2"),
        ([{"kind": "gate", "when": {"kind": "nothing"}, "then": RIGHT}], "rewards.0.when.kind: no reward is called 'nothing'"),
        ([{"kind": "product", "of": [RIGHT, {"kind": "clip_score"}]}], "ranges over"),
    ],
)
def test_a_wrong_tree_is_refused_with_its_place(tree, message):
    with pytest.raises(ConfigError) as caught:
        Composite.from_tree(tree)
    assert message in str(caught.value)


def test_a_reordered_table_keeps_each_rows_scores_and_errors_together(answers, rollout):
    table = scores([RIGHT, FORMAT], [*answers, rollout("x", answer="")])
    other = table.reordered([4, 2, 0, 1, 3])
    assert other.broken.tolist() == [True, False, False, False, False]
    assert torch.equal(other.scores[1:], table.scores[[2, 0, 1, 3]])
    assert other.total[0].isnan()
