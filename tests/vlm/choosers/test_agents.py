"""Four agents on a planted policy, whose texts are known beforehand."""

from __future__ import annotations

import pytest
from planted import SAMPLES, Planted, by

from vlreward.config import parse
from vlreward.errors import ConfigError
from vlreward.vlm.choosers.agents import Agents
from vlreward.vlm.choosers.base import Chooser
from vlreward.vlm.choosers.roles import Answering, Execution, Judgement, Planning, steps_of

RIGHT = "<verdict>right</verdict>"


def team(relate: str = "", paths: int = 1, candidates: int = 1, corrections: int = 3, thinking: int = 0) -> Agents:
    return Agents(
        by=by(),
        planning=Planning(prompt="P {question}{relevant}", again=" not {mistake}", relate=relate, paths=paths),
        execution=Execution(prompt="E {step}|{results}", again=" not {mistake}", candidates=candidates),
        judgement=Judgement(prompt="J {plan}|{process}", corrections=corrections, thinking=thinking),
        answering=Answering(prompt="A {process}", again=" mended {mistakes}"),
    )


def hand(agents: Agents, texts: dict[str, list[str]]) -> tuple[Planted, str, int, int]:
    """What the first sample's agents are asked, the answer handed out, and its tokens and texts."""
    planted = Planted(texts)
    [choice] = agents.choose(planted, SAMPLES[:1])  # type: ignore[arg-type]
    assert choice.rollout.sample is SAMPLES[0]
    return planted, choice.rollout.text or "", choice.tokens, choice.answers


def test_each_step_of_the_plan_is_carried_out_with_what_was_found_before_and_the_process_is_answered_from():
    texts = {
        "P A": ["1. find 1\n2) find 2"],
        "E find 1|": ["4"],
        "E find 2|find 1 4": ["5"],
        "J find 1\nfind 2|find 1 4\nfind 2 5": [RIGHT],
        "A find 1 4\nfind 2 5": ["9 9 9"],
    }
    planted, answer, tokens, texts_written = hand(team(), texts)
    assert planted.asked == list(texts)
    assert (answer, tokens, texts_written) == ("9 9 9", 5 + 1 + 1 + 1 + 3, 5)


def test_of_the_candidates_of_a_step_the_best_goes_on():
    texts = {"P A": ["x"], "E x|": ["2", "7", "3"], "J x|x 7": [RIGHT], "A x 7": ["1"]}
    assert hand(team(candidates=3), texts)[1:] == ("1", 1 + 3 + 1 + 1, 6)


def test_a_wrong_process_is_carried_out_again_with_the_mistake_and_the_answer_hears_of_both():
    texts = {
        "P A": ["x"],
        "E x|": ["2"],
        "J x|x 2": ["<verdict>right</verdict> no: <verdict>execution</verdict><mistake>too low</mistake>"],
        "E x| not too low": ["3"],
        "J x|x 3": [RIGHT],
        "A x 3 mended x 2\ntoo low": ["5"],
    }
    planted, answer, *_ = hand(team(), texts)
    assert planted.asked == list(texts)
    assert answer == "5"


def test_a_wrong_plan_is_planned_again_and_its_steps_carried_out_anew():
    texts = {
        "P A": ["x"],
        "E x|": ["2"],
        "J x|x 2": ["<verdict>Plan</verdict><mistake>no x</mistake>"],
        "P A not no x": ["y"],
        "E y| not no x": ["3"],
        "J y|y 3": [RIGHT],
        "A y 3 mended x 2\nno x": ["5"],
    }
    assert hand(team(), texts)[0].asked == list(texts)


def test_corrections_end_and_without_them_no_judge_is_asked():
    wrong = "<verdict>execution</verdict>"
    texts = {"P A": ["x"], "E x|": ["2"], "J x|x 2": [wrong, wrong], "E x| not the execution is wrong": ["2"], "A x 2": ["1"]}
    texts["A x 2 mended x 2\nthe execution is wrong"] = ["1"]
    asked = hand(team(corrections=1), texts)[0].asked
    assert [prompt[0] for prompt in asked] == list("PEJEJA")
    asked = hand(team(corrections=0), {"P A": ["x"], "E x|": ["2"], "A x 2": ["1"]})[0].asked
    assert [prompt[0] for prompt in asked] == list("PEA")


def test_of_several_plans_the_one_that_the_judge_passes_is_answered_from_and_of_those_the_best():
    wrong = "<verdict>plan</verdict>"
    texts = {"P A": ["x", "y", "z"], "E x|": ["9"], "E y|": ["3"], "E z|": ["5"], "J x|x 9": [wrong], "J y|y 3": [RIGHT], "J z|z 5": [""]}
    texts |= {"A z 5": ["1"], "P A not the plan is wrong": ["x"], "E x| not the plan is wrong": ["9"]}
    texts["J x|x 9"] = [wrong, wrong]
    assert hand(team(paths=3, corrections=1), texts)[0].asked[-1] == "A z 5"


def test_each_plan_is_led_by_a_similar_problem_of_its_own():
    texts = {"R A": ["a", "b"], "P Aa": ["x"], "P Ab": ["y"], "E x|": ["1"], "E y|": ["2"], "A y 2": ["1"]}
    assert hand(team(relate="R {question}", paths=2, corrections=0), texts)[0].asked == ["R A", "R A", *list(texts)[1:]]


def test_samples_are_counted_and_answered_apart_in_batches_of_any_size():
    texts = {
        "P A": ["x"] * 2,
        "P B": ["x x"] * 2,
        "E x|": ["2"] * 4,
        "E x x|": ["3"] * 4,
        "J x|x 2": [RIGHT] * 2,
        "J x x|x x 3": [RIGHT] * 2,
    }
    texts |= {"A x 2": ["1"], "A x x 3": ["1 1"]}
    for batch in (64, 2, 1):
        found = team(paths=2, candidates=2).choose(Planted(texts, batch), SAMPLES)  # type: ignore[arg-type]
        assert [(choice.rollout.text, choice.tokens, choice.answers) for choice in found] == [("1", 9, 9), ("1 1", 12, 9)]
        assert [choice.rollout.group for choice in found] == [0, 1]


def test_only_the_judge_has_a_least_number_of_tokens_and_reads_without_pictures():
    from vlreward.vlm.choosers.agents import Cast

    writers = Cast(Planted({}), team(thinking=40)._roles).writers  # type: ignore[arg-type]
    assert {name: (writer.least, writer.instead) for name, writer in writers.items() if writer.least} == {"judgement": (40, "Wait")}
    assert [role.pictures for role in team()._roles.values()] == [True, True, False, False]


def test_what_an_agent_wrote_is_no_place_of_a_prompt():
    asked = team().execution.ask(SAMPLES[0], step="{question}", results="{mistake}")
    assert asked.prompt == "E {question}|{mistake}"


def test_a_plan_without_lines_is_one_step():
    assert steps_of("", 3) == [""]
    assert steps_of("Step 1: a\n\n 2. b\nc\nd", 3) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"execution": {"prompt": "do it"}}, r"execution\.prompt: has no \{step\}"),
        ({"by": ["exact_match"]}, "is not known at test time"),
        ({"judgement": {"correction": 1}}, "Did you mean 'corrections'"),
    ],
)
def test_a_role_that_cannot_work_is_refused(tree, said):
    with pytest.raises(ConfigError, match=said):
        parse(Chooser, {"kind": "agents", "by": ["answer_format"]} | tree)


def test_a_role_whose_policy_is_missing_is_named_before_anything_is_answered():
    agents = parse(Chooser, {"kind": "agents", "by": ["answer_format"], "judgement": {"model": "no/such"}})
    with pytest.raises(ConfigError, match="is 'no/such', neither a folder") as caught:
        agents.check()
    assert caught.value.key == "eval.choose.judgement.model"
