import pytest
import torch

from vlreward.config import resolved
from vlreward.errors import ConfigError
from vlreward.rewards.composite import Composite, require_judged

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


LOST = {"kind": "vqa_score", "model": "no/such"}


@pytest.mark.parametrize(
    ("tree", "key"),
    [
        (LOST, "model"),
        ({"kind": "gate", "when": FORMAT, "then": LOST}, "then.model"),
        ({"kind": "minimum", "of": [RIGHT, LOST]}, "of.1.model"),
        ({"kind": "route", "of": {"a": RIGHT, "b": {"kind": "clip", "of": LOST}}}, "of.b.of.model"),
        ({"kind": "criteria", "criteria": {"look": {"by": LOST}}}, "criteria.look.by.model"),
        ({"kind": "geneval", "detector": {"kind": "zero_shot", "model": "no/such"}}, "detector.model"),
        ({"kind": "judge_score", "judge": {"kind": "local", "model": "no/such"}}, "judge.model"),
    ],
)
def test_a_model_that_is_not_there_is_named_with_its_key(tree, key):
    with pytest.raises(ConfigError) as caught:
        Composite.from_tree([FORMAT, tree]).load("cpu")
    assert caught.value.key == f"rewards.1.{key}"


def test_rewards_inside_of_criteria_are_known_to_the_composite():
    composite = Composite.from_tree([{"kind": "criteria", "criteria": {"right": {"by": RIGHT}}, "penalties": {"form": {"by": FORMAT}}}])
    assert [reward.kind for reward in composite.rewards] == ["criteria", RIGHT["kind"], FORMAT["kind"]]


def test_a_reordered_table_keeps_each_rows_scores_and_errors_together(answers, rollout):
    table = scores([RIGHT, FORMAT], [*answers, rollout("x", answer="")])
    other = table.reordered([4, 2, 0, 1, 3])
    assert other.broken.tolist() == [True, False, False, False, False]
    assert torch.equal(other.scores[1:], table.scores[[2, 0, 1, 3]])
    assert other.total[0].isnan()


def test_a_gate_with_shortfall_tells_failures_apart_below_zero(answers):
    half = {"kind": "clip", "of": RIGHT, "high": 0.4}
    gate = {"kind": "gate", "when": half, "then": FORMAT, "at_least": 0.5, "shortfall": True}
    assert scores([gate], answers).total.tolist() == pytest.approx([-0.1, -0.5, -0.1, -0.5])
    passing = gate | {"at_least": 0.4}
    assert scores([passing], answers).total.tolist() == pytest.approx([1, -0.4, 0, -0.4])


def test_a_soft_gate_weighs_by_a_sigmoid_and_keeps_what_is_inapplicable_or_broken(answers, rollout):
    soft = {"kind": "soft_gate", "when": FORMAT, "then": RIGHT, "at_least": 0.5, "sharpness": 4.0}
    opened = torch.sigmoid(torch.tensor([2.0, -2.0], dtype=torch.float64))
    assert scores([soft], answers).total.tolist() == pytest.approx([opened[0].item(), 0, opened[1].item(), 0])
    table = scores([soft], [rollout("<answer>red</answer>"), rollout("<answer>red</answer>", answer="")])
    assert table.scores.isnan().all()
    assert table.broken.tolist() == [False, True]


def test_judges_that_disagree_are_worth_less_than_their_mean(answers):
    cautious = {"kind": "cautious_mean", "of": [RIGHT, FORMAT], "kappa": 0.5}
    assert scores([cautious], answers).total.tolist() == pytest.approx([1, 0.25, 0.25, 0])
    whole = cautious | {"kappa": 2.0}
    assert scores([whole], answers).total.tolist() == pytest.approx([1, -0.5, -0.5, 0])


def test_a_term_of_weight_zero_watches_without_making_a_row_count(answers, rollout):
    watch = {"kind": "text_length", "unit": "characters", "weight": 0}
    table = scores([RIGHT, watch], [*answers, rollout("hello")])
    assert table.total.tolist()[:4] == [1, 0, 1, 0]
    assert table.total[4].isnan()
    assert table.scores[4, 1] == 5


def test_steps_keep_their_rewards_through_a_product_and_lose_a_share_of_them_through_a_soft_gate(rollout):
    steps = {"kind": "each_step", "of": {"kind": "exact_match", "tags": False}}
    row = rollout("red. blue.", answer="red.")
    product = scores([{"kind": "product", "of": [steps, steps]}], [row]).outputs["product"].segments[0]
    assert [segment.reward for segment in product] == [1, 0, 1, 0]
    gated = scores([{"kind": "soft_gate", "when": FORMAT, "then": steps, "at_least": 0.0}], [row]).outputs["soft_gate"].segments[0]
    assert [segment.reward for segment in gated] == [0.5, 0]


def test_a_judge_that_broke_on_all_rollouts_is_refused_and_one_that_only_watches_is_not(rollout):
    broken, good = rollout("<answer>red</answer>", answer=""), rollout("<answer>red</answer>", answer="red")
    require_judged(scores([FORMAT, RIGHT], [broken, good]))
    require_judged(scores([FORMAT, RIGHT | {"weight": 0.0}], [broken, broken]))
    with pytest.raises(ConfigError, match=r"rewards\.1: the judge of 'exact_match' broke on all of 2 rollouts: .*target\.answer"):
        require_judged(scores([FORMAT, RIGHT], [broken, broken]))
