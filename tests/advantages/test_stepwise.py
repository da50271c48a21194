"""Advantages that tell the steps of a rollout apart."""

import random

import pytest
import torch
from tables import NAN, groups, letters, table

from vlreward.advantages.group import GroupAdvantage
from vlreward.advantages.process import Process, shares_of_least
from vlreward.advantages.process_filter import ProcessFilter
from vlreward.advantages.stepwise import SegmentCredit, StepGroups
from vlreward.advantages.token_selective import TokenSelective
from vlreward.config import part
from vlreward.errors import ConfigError

SPANS = [[(0, 2, 1.0), (2, 4, 0.0)], [(0, 3, 0.5)], [], [(0, 1, -1.0), (1, 2, 0.5)], [(0, 2, 0.25)]]
IDS = groups(0, 0, 0, 1, 1)
OFFSETS = letters(5, 3, 2, 4, 2)


def stepped(weight: float = 1.0, a=(1.0, 0.0, 0.0, 1.0, 0.0), s=(0.5, 0.5, 0.0, -0.25, 0.25), spans=SPANS, **more):
    return table([1.0, weight], a=list(a), s=list(s), segments={"s": spans}, **more)


def test_a_worked_group_gives_each_token_its_segments_place_among_all_of_the_group():
    got = SegmentCredit(steps=("s",), of=GroupAdvantage(std="none"), eps=1e-12).tokens(stepped(2.0), IDS, OFFSETS)
    pooled = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
    z = (2 * (pooled - pooled.mean()) / pooled.std()).tolist()
    assert got[0].tolist() == pytest.approx([2 / 3 + z[0]] * 2 + [2 / 3 + z[1]] * 2 + [2 / 3] * 2)
    assert got[1].tolist() == pytest.approx([-1 / 3 + z[2]] * 3 + [-1 / 3] + [0, 0])
    assert got[2].tolist() == pytest.approx([-1 / 3] * 3 + [0] * 3), "no segments: only what the rollouts share"


def test_following_is_grpo_with_process_supervision():
    got = SegmentCredit(steps=("s",), form="following", eps=1e-12).tokens(
        table(s=[0.5, 0.5], segments={"s": SPANS[:2]}), groups(0, 0), letters(5, 3)
    )
    z = ((torch.tensor([1.0, 0.0, 0.5]) - 0.5) / torch.tensor([1.0, 0.0, 0.5]).std()).tolist()
    assert got[0].tolist() == pytest.approx([z[0] + z[1]] * 2 + [z[1]] * 2 + [0, 0])
    assert got[1].tolist() == pytest.approx([z[2]] * 3 + [0, 0, 0])


def test_without_tokens_it_is_the_advantage_of_the_other_terms_and_zero_without_any():
    credit = SegmentCredit(steps=("s",))
    assert torch.equal(credit(stepped(), IDS), GroupAdvantage()(table(a=[1.0, 0.0, 0.0, 1.0, 0.0]), IDS))
    assert credit(table(s=[0.5, 0.5], segments={"s": SPANS[:2]}), groups(0, 0)).tolist() == [0, 0]


def test_terms_add_up_each_on_its_own_scale():
    spans = {"s": [[(0, 1, 0.0)], [(0, 1, 1.0)]], "t": [[(0, 1, 0.0), (1, 2, 500.0)], []]}
    both = table([2.0, 3.0], s=[0.0, 1.0], t=[250.0, 0.0], segments=spans)
    got = SegmentCredit(steps=("s", "t"), eps=1e-12).tokens(both, groups(0, 0), letters(2, 2))
    z = 0.5**0.5
    assert got.tolist() == [pytest.approx([-5 * z, 3 * z, 0]), pytest.approx([2 * z, 0, 0])]


def gigpo(returns: list[list[float]], states: list[list[str]], ids: list[int], std: bool) -> list[list[float]]:
    """Equations 6 and 7 with plain dictionaries."""
    pools: dict = {}
    for group, row, names in zip(ids, returns, states, strict=True):
        for value, state in zip(row, names, strict=True):
            pools.setdefault((group, state), []).append(value)

    def place(value, pool):
        centred = value - sum(pool) / len(pool)
        deviation = torch.tensor(pool).std().item() if len(pool) > 1 else 1.0
        return centred / deviation if std and deviation > 1e-6 else centred

    rows = zip(ids, returns, states, strict=True)
    return [[place(v, pools[group, state]) for v, state in zip(row, names, strict=True)] for group, row, names in rows]


@pytest.mark.parametrize("std", ["none", "group"])
@pytest.mark.parametrize("seed", range(5))
def test_step_groups_are_gigpos(seed, std):
    rng = random.Random(seed)
    ids = [rng.randrange(2) for _ in range(8)]
    states = [[rng.choice("xyz") for _ in range(rng.randrange(4))] for _ in ids]
    rewards = [[round(rng.random(), 2) for _ in row] for row in states]
    returns = [[sum(0.9 ** (j - k) * row[j] for j in range(k, len(row))) for k in range(len(row))] for row in rewards]
    spans = [
        [(k, k + 1, r, x) for k, (r, x) in enumerate(zip(row, names, strict=True))] for row, names in zip(rewards, states, strict=True)
    ]
    t = table([0.7], s=[0.0] * 8, segments={"s": spans})
    got = StepGroups(steps=("s",), gamma=0.9, std=std, eps=1e-12, clip=1e9).tokens(t, groups(*ids), letters(*[4] * 8))
    for row, wanted in zip(got, gigpo(returns, states, ids, std == "group"), strict=True):
        assert row[: len(wanted)].tolist() == pytest.approx([0.7 * v for v in wanted], abs=1e-5)


def test_steps_are_compared_where_they_started_from_the_same_state_and_group_only():
    spans = [[(0, 1, 1.0, "x"), (1, 2, 0.0, "y")], [(0, 1, 0.0, "x"), (1, 2, 5.0, "z")], [(0, 1, 9.0, "x")]]
    got = StepGroups(steps=("s",), gamma=0.0).tokens(table(s=[0.0] * 3, segments={"s": spans}), groups(0, 0, 1), letters(2, 2, 1))
    assert got.tolist() == [[0.5, 0, 0], [-0.5, 0, 0], [0, 0, 0]]


def pure(rewards: list[list[float]], ids: list[int], temper: float | None) -> list[list[float]]:
    """Return to go of each step after PURE's transform and step baseline, written out."""
    weighed = []
    for row in rewards:
        weight = torch.softmax(-torch.tensor(row, dtype=torch.float64) / temper, 0) if temper and row else torch.ones(len(row))
        weighed.append([w * r for w, r in zip(weight.tolist(), row, strict=True)])
    found = []
    for i, row in enumerate(weighed):
        others = [sum(weighed[j]) / len(weighed[j]) for j in range(len(ids)) if j != i and ids[j] == ids[i] and weighed[j]]
        base = sum(others) / len(others) if others else None
        less = [r - base if base is not None else 0.0 for r in row]
        found.append([sum(less[k:]) for k in range(len(less))])
    return found


@pytest.mark.parametrize("form", ["minimum", "sum"])
@pytest.mark.parametrize("seed", range(5))
def test_process_rewards_are_pures(seed, form):
    rng = random.Random(seed)
    ids = [rng.randrange(3) for _ in range(9)]
    rewards = [[rng.uniform(-1, 1) for _ in range(rng.randrange(5))] for _ in ids]
    spans = [[(k, k + 1, r) for k, r in enumerate(row)] for row in rewards]
    t = table(s=[0.0] * 9, segments={"s": spans})
    got = Process(steps=("s",), form=form, clip=1e9).tokens(t, groups(*ids), letters(*[4] * 9))
    for row, wanted in zip(got, pure(rewards, ids, 0.1 if form == "minimum" else None), strict=True):
        assert row.tolist() == pytest.approx(wanted + [0.0] * (5 - len(wanted)), abs=1e-9)


def test_the_minimum_form_pays_for_the_worst_step_and_nothing_for_more_good_ones():
    few, many = torch.tensor([-0.5, 0.9], dtype=torch.float64), torch.tensor([-0.5] + [0.9] * 6, dtype=torch.float64)
    assert shares_of_least(few, 0.1).sum().item() == pytest.approx(-0.5, abs=1e-4)
    assert shares_of_least(many, 0.1).sum().item() == pytest.approx(-0.5, abs=1e-4)


def test_the_outcome_joins_by_leave_one_out_on_every_token():
    t = stepped()
    outcome = Process(steps=("s",))(t, IDS)
    assert outcome.tolist() == pytest.approx([1, -0.5, -0.5, 1, -1])
    got = Process(steps=("s",)).tokens(t, IDS, OFFSETS)
    assert got[2].tolist() == pytest.approx([-0.5] * 3 + [0] * 3)
    assert got[0, 4:].tolist() == pytest.approx([1, 1]), "behind the last step there is only the outcome"


def test_right_answers_with_good_steps_and_wrong_ones_with_bad_steps_are_kept_in_balance():
    t = table([1.0, 0.0], a=[1.0, 1.0, 1.0, 0.0, 0.0, 0.0], s=[0.9, 0.2, 0.5, 0.8, 0.1, 0.3])
    kept = ProcessFilter(steps="s", keep=4).kept(t, groups(*[0] * 6))
    assert kept.tolist() == [True, False, True, False, True, True]
    got = ProcessFilter(steps="s", keep=4, of=GroupAdvantage(eps=1e-12))(t, groups(*[0] * 6))
    z = 0.5 / torch.tensor([1.0, 1.0, 0.0, 0.0]).std().item()
    assert got.tolist() == pytest.approx([z, 0, z, 0, -z, -z])


def test_where_one_side_is_short_the_other_fills_up_and_any_wrong_one_may_do():
    t = table([1.0, 0.0], a=[1.0, 0.0, 0.0, 0.0, 0.0], s=[0.1, 0.9, 0.5, 0.2, 0.3])
    assert ProcessFilter(steps="s", keep=3).kept(t, groups(*[0] * 5)).tolist() == [True, False, False, True, True]
    assert ProcessFilter(steps="s", keep=3, wrong="any").kept(t, groups(*[0] * 5)).tolist() == [True, True, True, False, False]
    alone = table([1.0, 0.0], a=[1.0, 1.0, 1.0], s=[0.1, 0.2, 0.3])
    assert ProcessFilter(steps="s", keep=2).kept(alone, groups(0, 0, 0)).tolist() == [False, True, True]


def test_a_rollout_without_a_process_score_is_not_kept():
    t = table([1.0, 0.0], a=[1.0, 1.0, 0.0, 0.0], s=[NAN, 0.1, NAN, 0.9])
    assert ProcessFilter(steps="s", keep=4).kept(t, groups(*[0] * 4)).tolist() == [False, True, False, True]


def test_right_answers_of_one_step_or_too_many_lose_the_penalty():
    spans = [[(0, 1, 0.9)], [(0, 1, 0.5), (1, 2, 0.5)], [(k, k + 1, 0.8) for k in range(5)], []]
    t = table([1.0, 0.0], a=[1.0, 1.0, 1.0, 0.0], s=[0.9, 0.5, 0.8, 0.0], segments={"s": spans})
    assert ProcessFilter(steps="s", keep=2, penalty=1.0, long=5).kept(t, groups(*[0] * 4)).tolist() == [False, True, False, True]
    assert ProcessFilter(steps="s", keep=2).kept(t, groups(*[0] * 4)).tolist() == [True, False, False, True]


def test_each_reward_goes_to_its_own_tokens_and_to_the_thinking_before():
    spans = {"when": [[(2, 4, 1.0)], [(2, 4, 0.0)]], "what": [[(5, 6, 0.0)], [(5, 6, 1.0)]]}
    t = table([1.0, 2.0, 0.5], when=[1.0, 0.0], what=[0.0, 1.0], form=[1.0, 0.0], segments=spans)
    got = TokenSelective(terms=("when", "what"), eps=1e-12).tokens(t, groups(0, 0), letters(6, 6))
    z = 0.5**0.5
    everything, when, what = (1 - 2 + 0.5) * z, (1 + 0.5) * z, (-2 + 0.5) * z
    assert got[0].tolist() == pytest.approx([everything] * 2 + [when] * 2 + [everything] + [what] + [everything])
    assert got[1].tolist() == pytest.approx((-got[0]).tolist())


def test_leaving_a_tag_out_is_punished_on_every_token_that_no_other_reward_claims_alone():
    spans = {"when": [[], [(2, 4, 1.0)]], "what": [[(5, 6, 0.5)], [(5, 6, 0.5)]]}
    t = table(when=[0.0, 1.0], what=[0.5, 0.5], segments=spans)
    got = TokenSelective(terms=("when", "what"), eps=1e-12).tokens(t, groups(0, 0), letters(6, 6))
    z = 0.5**0.5
    assert got[0].tolist() == pytest.approx([-z] * 7)
    assert got[1].tolist() == pytest.approx([z, z, z, z, z, 0, z])


def test_token_credit_with_whole_text_segments_is_mrn_on_every_token():
    spans = {"x": [[(0, 3, 1.0)], [(0, 3, 0.0)], [(0, 3, 0.5)]]}
    t = table(x=[1.0, 0.0, 0.5], y=[0.0, 0.3, 0.1], segments=spans)
    selective = TokenSelective(terms=("x",))
    got = selective.tokens(t, groups(0, 0, 0), [[(0, 1), (1, 2), (2, 3)]] * 3)
    assert torch.allclose(got, selective(t, groups(0, 0, 0))[:, None].expand(3, 3))


EVERY = [
    SegmentCredit(steps=("s",)),
    SegmentCredit(steps=("s",), form="following"),
    StepGroups(steps=("s",)),
    StepGroups(steps=("s",), std="group"),
    Process(steps=("s",)),
    Process(steps=("s",), form="sum"),
    TokenSelective(terms=("s",)),
    ProcessFilter(steps="s", keep=2, of=SegmentCredit(steps=("s",))),
]


@pytest.mark.parametrize("advantage", EVERY)
def test_rows_that_are_broken_or_inapplicable_get_zero_and_touch_nothing(advantage):
    ids, offsets = groups(0, 0, 0, 0, 1, 1), letters(5, 3, 3, 2, 4, 2)
    spans = [SPANS[0], [(0, 2, 9.0)], *SPANS[1:]]
    rest = [0, 2, 3, 4, 5]
    wanted = advantage.tokens(stepped(), IDS, [offsets[i] for i in rest])
    assert wanted.abs().sum() > 0
    a, s = [1.0, 9.0, 0.0, 0.0, 1.0, 0.0], [0.5, 9.0, 0.5, 0.0, -0.25, 0.25]
    inapplicable = stepped(a=[1.0, NAN, *a[2:]], s=[0.5, NAN, *s[2:]], spans=spans)
    for t in (stepped(a=a, s=s, spans=spans, broken=(1,)), inapplicable):
        got = advantage.tokens(t, ids, offsets)
        assert got.shape == (6, 6)
        assert got[1].tolist() == [0] * 6
        assert advantage(t, ids)[1] == 0
        assert torch.allclose(got[rest], wanted, atol=1e-12)


@pytest.mark.parametrize("advantage", EVERY)
def test_a_group_in_which_all_is_equal_gets_exactly_zero(advantage):
    spans = [[(0, 1, 0.1 + 0.2, "first"), (1, 2, 0.3, "then")], [(0, 1, 0.3, "first"), (1, 2, 0.3, "then")]] * 2
    t = table(a=[0.3, 0.1 + 0.2, 0.3, 0.3], s=[0.3] * 4, segments={"s": spans})
    assert advantage.tokens(t, groups(0, 0, 0, 0), letters(2, 2, 2, 2)).abs().max() == 0


@pytest.mark.parametrize("advantage", EVERY)
def test_the_order_of_rows_and_the_names_of_groups_do_not_matter(advantage):
    got = advantage.tokens(stepped(), IDS, OFFSETS)
    order = [3, 0, 4, 2, 1]
    moved = stepped(a=[[1.0, 0.0, 0.0, 1.0, 0.0][i] for i in order], s=[[0.5, 0.5, 0.0, -0.25, 0.25][i] for i in order],
                    spans=[SPANS[i] for i in order])  # fmt: skip
    again = advantage.tokens(moved, IDS[order] + 40, [OFFSETS[i] for i in order])
    assert torch.allclose(again, got[order], atol=1e-12)


@pytest.mark.parametrize("advantage", [SegmentCredit(steps=("s",), eps=1e-12), StepGroups(steps=("s",), std="group", eps=1e-12)])
def test_the_scale_of_step_rewards_does_not_matter_where_they_are_divided_by_their_deviation(advantage):
    larger = [[(a, b, 10 * r) for a, b, r in row] for row in SPANS]
    got, again = (advantage.tokens(stepped(spans=spans), IDS, OFFSETS) for spans in (SPANS, larger))
    assert torch.allclose(got, again, atol=1e-9)


def test_plain_advantages_have_no_token_form_and_modifiers_pass_one_on():
    assert GroupAdvantage().tokens(stepped(), IDS, OFFSETS) is None
    assert not GroupAdvantage().per_token
    assert not part("advantages", {"kind": "difficulty"}).per_token
    nested = part("advantages", {"kind": "difficulty", "of": {"kind": "segment_credit", "steps": ["s"]}})
    assert nested.per_token
    assert torch.allclose(
        nested.tokens(stepped(), IDS, OFFSETS),
        nested.factor(stepped(), IDS)[:, None] * SegmentCredit(steps=("s",)).tokens(stepped(), IDS, OFFSETS),
    )


@pytest.mark.parametrize(
    "advantage", [SegmentCredit(steps=("s",), std="none"), StepGroups(steps=("s",)), Process(steps=("s",), form="sum")]
)
def test_what_a_token_gets_is_clipped(advantage):
    t = table(s=[0.0, 0.0], segments={"s": [[(0, 1, 100.0)], [(0, 1, -100.0)]]})
    assert advantage.tokens(t, groups(0, 0), letters(1, 1)).tolist() == [[5, 0], [-5, 0]]


def test_what_token_credit_adds_up_to_is_clipped():
    t = table([50.0], s=[1.0, 0.0], segments={"s": [[(0, 1, 1.0)], [(0, 1, 0.0)]]})
    assert TokenSelective(terms=("s",), clip=2.0).tokens(t, groups(0, 0), letters(1, 1)).tolist() == [[2, 2], [-2, -2]]


def test_nothing_at_all_gives_nothing():
    t = table(a=[NAN] * 2, s=[NAN] * 2, segments={"s": [[], []]})
    for advantage in EVERY:
        assert advantage.tokens(t, groups(0, 0), letters(1, 2)).abs().max() == 0


@pytest.mark.parametrize(("kind", "key"), [
    ({"kind": "segment_credit", "steps": ["x"]}, "steps"), ({"kind": "process", "steps": ["x"]}, "steps"),
    ({"kind": "token_selective", "terms": ["x"]}, "terms"), ({"kind": "process_filter", "steps": "x", "keep": 2}, "steps"),
])  # fmt: skip
def test_a_name_that_no_term_has_is_refused(kind, key):
    with pytest.raises(ConfigError, match=rf"advantage\.{key}: no term of `rewards` is called 'x'; there are a"):
        part("advantages", kind).tokens(table(a=[1.0, 0.0]), groups(0, 0), letters(1, 1))


def test_credit_to_no_terms_is_refused():
    with pytest.raises(ConfigError, match="terms: is empty"):
        part("advantages", {"kind": "token_selective", "terms": []})
