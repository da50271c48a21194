"""Choosers on a planted policy, whose answers are known beforehand."""

from __future__ import annotations

import pytest
import torch
from encoders import save_encoder
from planted import SAMPLES, Planted, Wants, Worth, by

from vlreward.config import parse
from vlreward.errors import ConfigError
from vlreward.rewards.agreement import SentenceAgreement
from vlreward.types import Rollout
from vlreward.vlm.choosers.base import Chooser
from vlreward.vlm.choosers.best_of_n import BestOfN, SelfConsistency
from vlreward.vlm.choosers.prune import Prune
from vlreward.vlm.choosers.verify_retry import VerifyRetry


def chosen(chooser: Chooser, answers: dict[str, list[str]], batch: int = 64) -> list[tuple[str, int, int]]:
    told: list[int] = []
    found = chooser.choose(Planted(answers, batch), SAMPLES, told.append)  # type: ignore[arg-type]
    assert sum(told) == len(found) == 2
    assert [choice.rollout.sample for choice in found] == SAMPLES
    return [(choice.rollout.text or "", choice.tokens, choice.answers) for choice in found]


ANSWERS = {"A": ["1", "5 5", "2", "3"], "B": ["7", "1 1 1", "x", "2"]}


@pytest.mark.parametrize("batch", [64, 4, 1])
def test_best_of_n_hands_out_the_best_of_each_sample_and_counts_what_all_cost(batch):
    assert chosen(BestOfN(by=by(), size=4), ANSWERS, batch) == [("5 5", 5, 4), ("7", 6, 4)]


def test_of_answers_that_no_judge_could_score_the_first_is_taken():
    assert chosen(BestOfN(by=by(), size=2), {"A": ["x", "x x"], "B": ["x", "1"]}) == [("x", 3, 2), ("1", 2, 2)]


def test_self_consistency_hands_out_what_most_say():
    answers = {"A": [f"<answer>{word}</answer>" for word in ("3", "5", "5", "9")], "B": ["no", *["<answer>2</answer>"] * 3]}
    assert [text for text, *_ in chosen(SelfConsistency(size=4), answers)] == ["<answer>5</answer>", "<answer>2</answer>"]
    boxes = ["[0,0,10,10]", "[40,40,50,50]", "[1,0,10,10]", "[0,0,11,11]"]
    answers = {name: [f"<answer>{box}</answer>" for box in boxes] for name in "AB"}
    assert {text for text, *_ in chosen(SelfConsistency(size=4, of="boxes"), answers)} == {"<answer>[0,0,10,10]</answer>"}


def test_pruned_answers_stop_early_and_the_best_that_went_on_is_handed_out():
    """By hand, two tokens a round: of four answers two go on, of these one; a late bloomer among the pruned is lost."""
    answers = {
        "A": ["1 1 0 0 0 50", "4 4 0 0 0 0", "3 3 9 9 0 0", "0 0 99 99 99 99"],
        "B": ["5", "1 1 1 1 1 1", "2 2 2 2 2 2", "0 0 0 0 0 0"],
    }
    found = chosen(Prune(by=by(), size=4, every=2, keep=0.5), answers)
    assert found[0] == ("3 3 9 9 0 0", 2 + 4 + 6 + 2, 4)
    assert found[1] == ("2 2 2 2 2 2", 1 + 2 + 6 + 2, 4)


def test_pruning_nothing_is_best_of_n():
    assert chosen(Prune(by=by(), size=4, every=1, keep=1.0), ANSWERS) == chosen(BestOfN(by=by(), size=4), ANSWERS)


def test_only_what_fails_is_asked_again_and_the_best_try_is_handed_out():
    answers = {"A": ["9"], "B": ["3"], "B|3|worth ['3']": ["4 4"], "B|4 4|worth ['4', '4']": ["1"]}
    retry = VerifyRetry(by=by(), at_least=9, tries=3, again="{prompt}|{answer}|{feedback}")
    assert chosen(retry, answers) == [("9", 1, 1), ("4 4", 4, 3)]


def test_a_passing_retry_ends_the_tries_and_a_broken_judge_says_why():
    writer = Planted({"A": ["x", "9"], "B": ["9"]})
    found = VerifyRetry(by=by(), at_least=9, tries=5, again="{prompt}").choose(writer, SAMPLES)  # type: ignore[arg-type]
    assert [(choice.rollout.text, choice.answers) for choice in found] == [("9", 2), ("9", 1)]
    assert writer.asked == ["A", "B", "A"]
    told = Planted({"A": ["x"], "B": ["9"], "A: worth: no answer": ["9"]})
    VerifyRetry(by=by(), at_least=9, tries=2, again="{prompt}: {feedback}").choose(told, SAMPLES)  # type: ignore[arg-type]
    assert told.asked[-1] == "A: worth: no answer"


def test_what_an_answer_writes_is_no_place_of_the_prompt():
    retry = VerifyRetry(by=by(), at_least=1)
    text = retry.prompt(SAMPLES[0], "{feedback} {prompt}", "bad {answer}")
    assert text == "A\n\nAn earlier answer was: {feedback} {prompt}\nA judge found: bad {answer}\nAnswer again."


def test_rewards_do_not_see_the_target_unless_it_is_asked_for():
    blind, seeing = Worth(), Worth()
    chosen(BestOfN(by=by(blind), size=2), ANSWERS)
    chosen(BestOfN(by=by(seeing), size=2, oracle=True), ANSWERS)
    assert blind.__dict__["seen"] == [{}] * 4
    assert seeing.__dict__["seen"][0] == {"answer": "9"}
    chosen(BestOfN(by=by(Wants()), size=2, oracle=True), ANSWERS)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"kind": "best_of_n", "by": ["exact_match"]}, r"reads 'target\.answer'.*oracle: true"),
        ({"kind": "prune", "by": [{"kind": "gate", "when": "answer_format", "then": "box_iou"}]}, r"reads 'target\.boxes'"),
        ({"kind": "verify_retry", "by": ["agreement"], "at_least": 0.5}, "each is judged alone"),
        ({"kind": "verify_retry", "by": ["answer_format"], "at_least": 0.5, "again": "again"}, "the question would be lost"),
    ],
)
def test_a_judge_that_cannot_work_is_refused(tree, said):
    with pytest.raises(ConfigError, match=said):
        parse(Chooser, tree)
    if "exact" in str(tree):
        parse(Chooser, tree | {"oracle": True})


def test_scores_are_finite_or_lowest():
    scores, _ = BestOfN(by=by()).judge([Rollout(sample=SAMPLES[0], text="x"), Rollout(sample=SAMPLES[0], text="3")], "cpu")
    assert scores == [-float("inf"), 3.0]
    assert torch.tensor(scores).argmax() == 1


def test_the_candidate_whose_sentences_are_unlike_its_siblings_is_pruned_first(tmp_path):
    """SDR's signal: after the first sentence the odd one out stops, while the others are still being written."""
    sibling = "The red circle is on the left . It is small ."
    odd = "Three green triangles are right and above . It is small ."
    answers = {name: [sibling, odd, sibling.replace("small", "large")] for name in "AB"}
    judge = SentenceAgreement(model=str(save_encoder(tmp_path)))
    planted = Planted(answers)
    found = Prune(by=by(judge), size=3, every=8, keep=0.6).choose(planted, SAMPLES)  # type: ignore[arg-type]
    assert {choice.rollout.text for choice in found} <= {sibling, sibling.replace("small", "large")}
    assert [choice.tokens for choice in found] == [12 + 8 + 12] * 2
