import itertools
import json

import pytest

from vlreward.rewards.changes import ChangeMatch, read_changes

RED, BIG = [3, "color", "red"], [5, "size", "big"]


def score(rollout, text: str, changes=(RED,), **keys) -> float:
    output = ChangeMatch(**keys).score([rollout(f"<answer>{text}</answer>", changes=[list(change) for change in changes])])
    assert output.errors == [None], output.errors
    return output.scores.item()


@pytest.mark.parametrize(
    "text",
    [
        "(3, color, red)",
        "[3, 'Color', \"RED\"]",
        '[[3, "color", "red"]]',
        '```json\n[{"object": 3, "attribute": "color", "value": "red"}]\n```',
        '{"object": "3", "attribute": "color", "value": "red"}',
    ],
)
def test_the_exact_change_scores_one_in_every_syntax(rollout, text):
    assert score(rollout, text) == 1.0


@pytest.mark.parametrize(
    ("text", "changes", "wanted"),
    [
        ("(3, color, blue)", [RED], 1.5 / 5),
        ("(3, size, big)", [RED], 0.5 / 5),
        ("(4, color, red)", [RED], -1 / 5),
        ("", [RED], -1 / 5),
        ("(3, color)", [RED], -1 / 5),
        ("(3, color, red)", [RED, BIG], (5 - 1) / 10),
        ("(3, color, red), (5, size, small)", [RED, BIG], 6.5 / 10),
        ("(3, color, red), (4, size, big)", [RED, BIG], (5 - 1) / 10),
        ("", [RED, BIG], -2 / 10),
    ],
)
def test_partial_credit_and_what_errors_and_silence_cost(rollout, text, changes, wanted):
    assert score(rollout, text, changes) == pytest.approx(wanted)


def test_order_does_not_matter(rollout):
    found = ["(3, color, red)", "(5, size, small)", "(9, size, big)"]
    assert len({score(rollout, ", ".join(order), [RED, BIG]) for order in itertools.permutations(found)}) == 1


def test_enumerating_does_not_pay(rollout):
    """A plain sum of the published credits pays 5 + 7 * 1.5 for eight colours."""
    colours = "red blue green yellow cyan gray brown purple".split()
    spam = ", ".join(f"(3, color, {colour})" for colour in colours)
    assert score(rollout, spam) == pytest.approx((5 - 7) / 5)
    assert score(rollout, "(3, color, red), (3, color, red)") == pytest.approx(4 / 5)
    everything = json.dumps([[i, a, v] for i in range(10) for a in ("color", "size") for v in ("red", "big", "blue")])
    assert score(rollout, everything, [RED, BIG]) == -1.0


def test_an_answer_without_tags_is_worth_no_more_than_silence(rollout):
    output = ChangeMatch().score([rollout("(3, color, red)", changes=[RED])])
    assert output.scores.item() == pytest.approx(-1 / 5)


def test_the_prices_can_be_set(rollout):
    assert score(rollout, "(4, color, red)", wrong=2.5) == pytest.approx(-0.5)
    assert score(rollout, "", missing=0.0) == 0.0


def test_objects_of_json_without_the_keys_count_as_wrong(rollout):
    assert read_changes('[{"object": 3, "value": "red"}, {x}]') == [("3", "", "red"), ("", "", "")]
    assert score(rollout, '[{"object": 3, "attribute": "color", "value": "red"}, {x}]') == pytest.approx(4 / 5)


@pytest.mark.parametrize("changes", [[], 5, [[1, 2]], [["", "color", "red"]], ["abc"]])
def test_a_wrong_target_breaks_its_row_only(rollout, changes):
    good = rollout("<answer>(3, color, red)</answer>", changes=[RED])
    output = ChangeMatch().score([rollout("<answer>(3, color, red)</answer>", changes=changes), good])
    assert output.errors[0].startswith("target.changes")
    assert output.scores[1] == 1.0


def test_no_answer_leaves_the_bounds_or_breaks(rollout, hostile):
    output = ChangeMatch().score([rollout(text, changes=[RED, BIG]) for text in hostile])
    assert not any(output.errors)
    assert ((output.scores >= -1) & (output.scores <= 1)).all()
