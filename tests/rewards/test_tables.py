import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlreward.errors import ConfigError
from vlreward.rewards.tables import MAX_NODES, Teds, read_table, tree_similarity
from vlreward.types import Rollout, Sample

PEOPLE = (
    "<table><thead><tr><td>Name</td><td>Age</td></tr></thead>"
    "<tbody><tr><td>Ann</td><td>30</td></tr><tr><td>Bo</td><td>4</td></tr></tbody></table>"
)
MARKDOWN = "| Name | Age |\n|:-----|----:|\n| Ann  | 30  |\n| Bo   | 4   |"


def score(answer: str, wanted: str = PEOPLE, **fields) -> float:
    output = Teds(**fields).score([Rollout(sample=Sample(id="s", prompt="p", target={"table": wanted}), text=f"<answer>{answer}</answer>")])
    assert output.errors == [None], output.errors
    return output.scores.item()


def test_the_exact_table_scores_one_in_either_notation():
    assert score(PEOPLE) == score(PEOPLE.replace("><", ">\n  <")) == 1.0
    assert score(MARKDOWN) == score(PEOPLE, wanted=MARKDOWN) == score(MARKDOWN, wanted=MARKDOWN) == 1.0
    assert score(f"Here it is:\n\n{MARKDOWN}\n\nand that was it.") == 1.0


def test_worked_values():
    changed = PEOPLE.replace("30", "31").replace("<td>Ann</td>", '<td colspan="2">Ann</td>')
    assert score(changed) == pytest.approx(1 - 1.5 / 11), "11 nodes; 1 for the span, 1/2 for one of two digits"
    assert score(changed, structure=True) == pytest.approx(1 - 1 / 11)
    assert score(PEOPLE.replace("<tr><td>Bo</td><td>4</td></tr>", "")) == pytest.approx(1 - 3 / 11)
    assert score(MARKDOWN.replace("30", "31")) == pytest.approx(1 - 0.5 / 9), "without sections"


def test_header_cells_count_like_cells():
    headed = PEOPLE.replace("<td>Name</td><td>Age</td>", "<th>Name</th><th>Age</th>")
    assert score(headed) == 1.0
    assert score(headed.replace("Name", "XXXX"), wanted=headed) == pytest.approx(1 - 1 / 11)


def test_values_agree_with_the_public_implementation():
    """Distances of table-recognition-metric 0.0.6, which divides by the tree with its root; 686 random tables differ by 1e-16."""
    small = "<table><thead><tr><td>Name</td><td>Age</td></tr></thead><tbody><tr><td>Ann</td><td>30</td></tr></tbody></table>"
    changed = small.replace("30", "31").replace("<td>Ann</td>", '<td colspan="2">Ann</td>')
    first, second = read_table(changed), read_table(small)
    assert first is not None and second is not None
    assert (1 - tree_similarity(first, second)) * second.size == pytest.approx(1.4999999999999996)


@pytest.mark.parametrize("answer", ["", "no table", "<table>", "<table></table>", "| a | b |", "<tr><td>Name</td></tr>", "a | b\n--- x"])
def test_an_answer_without_rows_scores_low(answer):
    assert score(answer) == 0.0


def test_an_empty_skeleton_is_worth_its_share_and_no_more():
    empty = PEOPLE
    for text in ("Name", "Age", "Ann", "30", "Bo", "4"):
        empty = empty.replace(f">{text}<", "><")
    assert score(empty) == pytest.approx(1 - 6 / 11)
    assert score(empty, structure=True) == 1.0


def test_of_several_tables_the_last_counts_and_a_giant_one_is_worth_nothing():
    other = "<table><tr><td>x</td></tr></table>"
    assert score(other + PEOPLE) == 1.0
    assert score(PEOPLE + other) == score(other)
    assert score(MARKDOWN + "\n\n| x | y |\n|---|---|\n| z | z |") < 0.5
    assert score(PEOPLE.replace("</tbody>", "<tr><td>Ann</td><td>30</td></tr>" * 300 + "</tbody>")) == 0.0
    doubled = PEOPLE.replace("</tbody>", "<tr><td>Bo</td><td>4</td></tr>" * 3 + "</tbody>")
    assert score(doubled) == pytest.approx(11 / 20)


def test_order_of_rows_matters():
    ann, bo = "<tr><td>Ann</td><td>30</td></tr>", "<tr><td>Bo</td><td>4</td></tr>"
    swapped = PEOPLE.replace(ann + bo, bo + ann)
    assert score(swapped) < 1.0


def test_markdown_cells_may_hold_escaped_bars_and_rows_may_lack_outer_ones():
    table = read_table("a | b\n--- | ---\n1 \\| 2 | 3")
    assert table is not None
    assert [[cell.text for cell in row.children] for row in table.children] == [["a", "b"], ["1 | 2", "3"]]


def test_a_broken_target_costs_its_own_row():
    rows = [
        Rollout(sample=Sample(id="s", prompt="p", target={"table": table}), text=f"<answer>{PEOPLE}</answer>")
        for table in ("no table", PEOPLE, 7, "<table>" + "<tr><td>1</td></tr>" * MAX_NODES + "</table>")
    ]
    output = Teds().score(rows)
    assert output.broken.tolist() == [True, False, True, True]
    assert f"more than the {MAX_NODES} allowed" in (output.errors[3] or "")


def test_without_the_extra_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "apted", None)
    with pytest.raises(ConfigError, match=r"pip install 'vlreward\[tables\]'"):
        Teds().load("cpu")


PIECES = [
    "<table>",
    "</table>",
    "<tr>",
    "</tr>",
    "<td>",
    "</td>",
    "<th colspan=2>",
    "<thead>",
    "<tbody>",
    "|",
    "---",
    "\n",
    "a",
    "<!--",
    "&#0;",
    "<td rowspan='x'>",
]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_any_answer_stays_in_bounds(text):
    assert 0 <= score(text) <= 1
    assert 0 <= score(text, structure=True) <= 1


def test_deep_and_odd_markup_does_not_break():
    rng = random.Random(0)
    assert 0 <= score("<table>" + "<tr><td>" * 5000) <= 1
    assert 0 <= score("<table>" + "<div>" * 20000 + "<tr><td>x") <= 1
    assert 0 <= score("<table><tr><td>\ud800 \x00" + "".join(chr(rng.randrange(1, 0xD7FF)) for _ in range(500))) <= 1
    assert score('<?xml version="1.0" encoding="utf-16"?>' + PEOPLE) == 1.0
