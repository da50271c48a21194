import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.retrieval import retrieval_normalized_dcg, retrieval_recall, retrieval_reciprocal_rank

from vlreward.rewards.ranking import Reranking, ranking_quality, read_ranking
from vlreward.types import Rollout, Sample

FIVE = [1, 2, 3, 4, 5]


def score(answer: str, relevant=(3, 5), candidates=tuple(FIVE), **fields) -> float:
    target = {"relevant": relevant if isinstance(relevant, dict) else list(relevant), "candidates": list(candidates)}
    output = Reranking(**fields).score([Rollout(sample=Sample(id="s", prompt="p", target=target), text=f"<answer>{answer}</answer>")])
    assert output.errors == [None], output.errors
    return output.scores.item()


@pytest.mark.parametrize(
    "answer", ["[3, 5]", "3, 5", "5 > 3", "[3] > [5] > [1] > [2] > [4]", "[5, 3, 1]", '["3", "5"]', "3\n5", "`[3, 5]`"]
)
def test_the_relevant_first_is_the_top_in_every_notation(answer):
    for measure in ("ndcg", "recall", "mrr"):
        assert score(answer, measure=measure) == pytest.approx(1.0)


def test_worked_values():
    assert score("[1, 3, 5]") == pytest.approx((1 / math.log2(3) + 0.5) / (1 + 1 / math.log2(3)))
    assert score("[3]") == pytest.approx(1 / (1 + 1 / math.log2(3)))
    assert score("[1, 2, 5]", measure="mrr") == pytest.approx(1 / 3)
    assert score("[1, 2, 5]", measure="mrr", k=2) == 0.0
    assert score("[1, 3, 5, 2]", measure="recall", k=2) == 0.5
    assert score("[3, 1]", measure="recall", k=1) == 1.0
    assert score("[1, 2]", relevant={"1": 1, "2": 3}) == pytest.approx((1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)))


def test_duplicates_and_invented_entries_are_punished():
    """MM-R5's own reward gives the first of these 0.903."""
    exploit = (1 + 1 / math.log2(5)) / (1 + 1 / math.log2(3)) / 2
    assert score("[3, 3, 3, 5]") == pytest.approx(exploit) and exploit < 0.45
    assert score("[3, 99, 98, 5]") == pytest.approx(exploit)
    assert score("[3, 5, 5]") == pytest.approx(2 / 3)
    assert score("[3, 5, 77]", measure="recall", k=2) == pytest.approx(2 / 3)
    assert score("[3" + ", 3" * 500 + "]") < 0.01


@pytest.mark.parametrize("answer", ["", "[]", "none", "[1, 2, 4]", "[99]", "[[3], [5]]", "{}", "[" * 5000, "3 " * 20_000])
def test_answers_without_anything_right_score_zero(answer):
    assert score(answer) == pytest.approx(0.0, abs=1e-3)


def test_names_serve_as_well_as_numbers_and_tags_matter():
    target = {"relevant": ["page b"], "candidates": ["page a", "page b"]}
    rows = [Rollout(sample=Sample(id="s", prompt="p", target=target), text=text) for text in ('<answer>["page b"]</answer>', '["page b"]')]
    assert Reranking().score(rows).scores.tolist() == [1.0, 0.0]


BROKEN = [
    {"relevant": [], "candidates": FIVE},
    {"relevant": [9], "candidates": FIVE},
    {"relevant": {"1": 0}, "candidates": FIVE},
    {"relevant": [1], "candidates": "12"},
]


@pytest.mark.parametrize("target", BROKEN)
def test_a_broken_target_costs_its_own_row(target):
    right = {"relevant": [1], "candidates": FIVE}
    rows = [Rollout(sample=Sample(id="s", prompt="p", target=given), text="<answer>[1]</answer>") for given in (target, right)]
    output = Reranking().score(rows)
    assert output.broken.tolist() == [True, False]
    assert Reranking().score([Rollout(sample=Sample(id="s", prompt="p", target={"relevant": [1]}), text="1")]).scores.isnan().all()


@given(st.permutations(range(8)), st.integers(1, 8), st.sampled_from([None, 1, 3, 8]))
def test_measures_agree_with_torchmetrics(order, relevant, k):
    ranked = [float(name < relevant) for name in order]
    predictions, target = torch.arange(8, 0, -1).float(), torch.tensor(ranked)
    assert ranking_quality(ranked, [1.0] * relevant, "ndcg", k) == pytest.approx(
        retrieval_normalized_dcg(predictions, target, top_k=k).item(), abs=1e-6
    )
    assert ranking_quality(ranked, [1.0] * relevant, "mrr", k) == pytest.approx(
        retrieval_reciprocal_rank(predictions, target.bool(), top_k=k).item(), abs=1e-6
    )
    if k is None or k >= relevant:
        recall = retrieval_recall(predictions, target.bool(), top_k=k).item()
        assert ranking_quality(ranked, [1.0] * relevant, "recall", k) == pytest.approx(recall, abs=1e-6)


@given(st.text(alphabet="0123456789[],> \"'{}abc", max_size=50))
def test_any_answer_stays_in_bounds_and_junk_behind_it_never_helps(text):
    for measure in ("ndcg", "recall", "mrr"):
        assert 0 <= score(text, measure=measure) <= 1
    entries = read_ranking("1, 3")
    assert score(", ".join([*entries, "99"])) <= score(", ".join(entries))


@given(st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.0, 3.5]), min_size=2, max_size=9).filter(any), st.sampled_from([None, 1, 3]))
def test_graded_gains_agree_with_torchmetrics(gains, k):
    theirs = retrieval_normalized_dcg(torch.arange(len(gains), 0, -1).float(), torch.tensor(gains), top_k=k).item()
    assert ranking_quality(gains, [gain for gain in gains if gain > 0], "ndcg", k) == pytest.approx(theirs, abs=1e-6)
