"""Steps of reasons against evidence regions, in order."""

import itertools

import numpy as np
import pytest

from vlreward.rewards.evidence import RegionEvidence, match

PAGE = {"evidence": [[0, 0, 10, 10], [0, 20, 10, 40]], "size": [50, 50]}
FIRST, SECOND = "Title [0, 0, 10, 10].", "Total [0, 20, 10, 40]."


def judge(rollout, text, **keys):
    output = RegionEvidence(**keys).score([rollout(text, **PAGE)])
    assert output.errors == [None]
    return output


@pytest.mark.parametrize(
    "frame", ["{} {}", "<think>{} So {}</think><answer>7</answer>", "{}\nNothing here.\n{} <answer>[0, 0, 9, 9]</answer>"]
)
def test_each_step_on_its_evidence_in_order_scores_one(rollout, frame):
    assert judge(rollout, frame.format(FIRST, SECOND)).scores.tolist() == [1]


def test_half_of_a_region_is_worth_half_and_is_credited_to_its_own_step(rollout):
    text = f"{FIRST} Total [0, 20, 10, 30]."
    output = judge(rollout, text)
    assert output.scores.tolist() == [0.75]
    assert [(text[s.start : s.end], s.reward) for s in output.segments[0]] == [(FIRST, 1.0), ("Total [0, 20, 10, 30].", 0.5)]


def test_segments_lie_where_the_reasons_stand_in_the_whole_text(rollout):
    text = f"Hm. <think>{FIRST} {SECOND}</think><answer>[0, 0, 5, 5]</answer>"
    assert [text[s.start : s.end] for s in judge(rollout, text).segments[0]] == [FIRST, SECOND]


def test_the_wrong_order_costs_unless_it_is_free(rollout):
    assert judge(rollout, f"{SECOND} {FIRST}").scores.tolist() == [0.5]
    assert judge(rollout, f"{SECOND} {FIRST}", order="free").scores.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f"{FIRST} {FIRST} {SECOND}", 2 / 3),
        (f"{FIRST} {SECOND} And [30, 30, 40, 40]. And [40, 40, 50, 50].", 0.5),
        ("All at [0, 0, 10, 10] and [0, 20, 10, 40].", 0.25),
        ("Everywhere [0, 0, 50, 50]. Everywhere [0, 0, 50, 50].", (100 + 200) / 2500 / 2),
        ("Title [10, 10, 0, 0]. Total [0, 20, 10, 1e999].", 0.5 * 200 / 300),
        ("No region at all.", 0),
        ("", 0),
    ],
)
def test_surplus_repeated_and_malformed_regions_cost(rollout, text, wanted):
    assert judge(rollout, text).scores.item() == pytest.approx(wanted)


def test_a_floor_takes_what_a_box_over_everything_earns(rollout):
    assert judge(rollout, "Everywhere [0, 0, 50, 50].", form="hit", floor=0.5).scores.tolist() == [0]


def test_the_matching_is_the_best_of_all_that_keep_the_order():
    rng = np.random.default_rng(0)
    for _ in range(60):
        worth = rng.choice([0.0, 0.3, 0.5, 0.9], size=rng.integers(1, 5, 2))
        steps, regions = worth.shape
        options = [
            sum(worth[s, w] for s, w in zip(some, others, strict=True))
            for size in range(min(steps, regions) + 1)
            for some in itertools.combinations(range(steps), size)
            for others in itertools.combinations(range(regions), size)
        ]
        pairs = match(worth, kept=True)
        assert sum(worth[s, w] for s, w in pairs) == pytest.approx(max(options))
        assert pairs == sorted(pairs)
        assert len({s for s, _ in pairs}) == len({w for _, w in pairs}) == len(pairs)


@pytest.mark.parametrize("evidence", [[], "page", [[0, 0, 1]], [[5, 0, 1, 1]]])
def test_broken_evidence_is_an_error_of_its_row_only(rollout, evidence):
    output = RegionEvidence().score([rollout(FIRST, evidence=evidence), rollout(f"{FIRST} {SECOND}", **PAGE)])
    assert "target.evidence" in output.errors[0]
    assert output.scores.tolist()[1] == 1
