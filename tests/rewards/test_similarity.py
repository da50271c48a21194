import logging

import pytest
import torch
from encoders import WORDS, save_encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from vlreward.models.text_encoder import load_token_table
from vlreward.rewards.composite import Composite
from vlreward.rewards.similarity import BertScore, Bmas, RougeL, best_matches, rouge_l
from vlreward.types import Rollout, Sample

LEFT = "the red circle is on the left of the blue square"
ASSET = "assets/tiny-vlm"


def row(text, wanted) -> Rollout:
    return Rollout(sample=Sample(id="s", prompt="p", target={"answer": wanted}), text=text)


def score(reward, answer, wanted) -> float:
    output = reward.score([row(f"<answer>{answer}</answer>", wanted)])
    assert output.errors == [None], output.errors
    return output.scores.item()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(save_encoder(tmp_path_factory.mktemp("encoder")))


@pytest.fixture
def rewards(folder, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    return [RougeL(), Bmas(model=ASSET), BertScore(model=folder), BertScore(model=folder, layer=1, baseline=0.3)]


def test_the_reference_itself_scores_the_top_and_nothing_scores_nothing(rewards):
    for reward in rewards:
        assert score(reward, LEFT, LEFT) == pytest.approx(1.0, abs=1e-5)
        assert score(reward, LEFT, ["two small triangles", LEFT]) == pytest.approx(1.0, abs=1e-5)
        assert score(reward, "two small triangles", LEFT) < 0.9
        assert score(reward, "", LEFT) == score(reward, "  ", LEFT) == 0.0
        assert reward.score([row(LEFT, LEFT)]).scores.item() == 0.0, "no tags"


def test_padding_lowers_the_score(rewards):
    for reward in rewards:
        assert score(reward, LEFT + " and two three below small large" * 3, LEFT) < score(reward, LEFT, LEFT) - 0.02


def test_a_broken_target_costs_its_own_row_and_scores_do_not_depend_on_the_batch(rewards):
    rows = [row("<answer>the red circle</answer>", wanted) for wanted in (LEFT, "", [], ["a blue square", LEFT])]
    for reward in rewards:
        output = reward.score(rows)
        assert output.broken.tolist() == [False, True, True, False]
        assert output.scores[0].item() == pytest.approx(reward.score(rows[:1]).scores.item(), abs=1e-5)


def test_rouge_worked_and_in_chinese():
    assert score(RougeL(), "the red cat sat", "The cat sat down.") == 0.75
    assert rouge_l("红色的圆", "红色圆") == pytest.approx(2 * 3 / 7)
    assert rouge_l("", "") == 0.0


plain = st.lists(st.sampled_from("a cat the Red dog's 42 sat, on x-ray".split()), max_size=10).map(" ".join)


@given(plain, plain)
def test_rouge_agrees_with_rouge_score(answer, wanted):
    theirs = RougeScorer(["rougeL"]).score(wanted, answer)["rougeL"].fmeasure
    assert rouge_l(answer, wanted) == pytest.approx(theirs, abs=1e-12)


def test_best_matches_by_hand():
    answer = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    wanted = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    assert best_matches(answer, wanted) == pytest.approx(((1 + 0.8) / 2, (1 + 0.8 + 0) / 3))


def test_bmas_follows_its_formula_on_the_models_own_embeddings(rewards):
    table = load_token_table(ASSET)
    first, second = table.encode("a red circle"), table.encode("a blue square")
    cosines = [[float(a @ b) for b in second] for a in first]
    forward = sum(map(max, cosines)) / len(first)
    backward = sum(map(max, zip(*cosines))) / len(second)
    assert score(rewards[1], "a red circle", "a blue square") == pytest.approx((forward + backward) / 2, abs=1e-6)


def test_bmas_does_not_see_order_or_repetition_as_its_docstring_says(rewards):
    wanted, spam = "see the red circle blue square", "see" + " the red circle blue square" * 3
    assert score(rewards[1], "see square blue circle the red", wanted) == pytest.approx(1.0, abs=1e-5)
    assert score(rewards[1], spam, wanted) == pytest.approx(1.0, abs=1e-5)
    guarded = Composite.from_tree([{"kind": "bmas", "model": ASSET}, {"kind": "repetition", "n": 2}])
    assert guarded([row(f"<answer>{spam}</answer>", wanted)]).total.item() < 0.5


def test_bert_score_agrees_with_torchmetrics(folder):
    from torchmetrics.functional.text.bert import bert_score

    logging.disable(logging.WARNING)
    answers = [LEFT, "the red circle", "two small triangle and the red square", "zebra red"]
    wanted = ["the blue square is on the right of the red circle"] * 4
    theirs = bert_score(answers, wanted, model_name_or_path=folder, num_layers=2, max_length=64, truncation=True)["f1"]
    ours = [score(BertScore(model=folder), answer, reference) for answer, reference in zip(answers, wanted)]
    assert ours == pytest.approx(torch.as_tensor(theirs).tolist(), abs=1e-5)


def test_bert_score_sees_order_where_bmas_does_not(folder):
    shuffled = " ".join(sorted(LEFT.split()))
    assert score(BertScore(model=folder), shuffled, LEFT) < 0.99


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)))
def test_any_answer_stays_in_bounds(rewards, text):
    assert all(0 <= score(reward, text, LEFT) <= 1 for reward in rewards)
