"""Table rewards against a second, plain implementation of DePlot's definition (a loop over pairs) and its published values."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein
from scipy.optimize import linear_sum_assignment

from vlreward.rewards.chart_tables import TableRms, TableRnss, read_table

TARGET = "title | my table\nyear | argentina | brazil\n1999 | 200 | 158\n"
TRANSPOSED = "title | my table\ncountry | 1999\nargentina | 200\nbrazil | 158\n"
ANSWER = "title | my table\nyear | argentina | brazil\n1999 | 202 | 0\n"
WORDS = "north south east west sales cost profit 2019 2020 2021 units share apples pears".split()


def rms(rollout, table, answer, **keys) -> float:
    return TableRms(**keys).score([rollout(f"<answer>{answer}</answer>", table=table)]).scores.item()


def rnss(rollout, table, answer, **keys) -> float:
    return TableRnss(**keys).score([rollout(f"<answer>{answer}</answer>", table=table)]).scores.item()


def pairwise(target: str, answer: str, title: bool, tie: float) -> tuple[float, float, float]:
    """Precision, recall, F1 by loops over all pairs of points. `tie`: how much equal values count in matching keys (DePlot: not at all)."""

    def as_float(cell):
        try:
            return float(cell[:-1]) / 100 if cell.endswith("%") else float(cell)
        except ValueError:
            return None

    def anls(a, b):
        distance = Levenshtein.distance(a, b) / max(len(a), len(b), 1)
        return 1 - distance if distance < 0.5 else 0

    def points(text, transposed):
        lines = text.lower().splitlines()
        found = {}
        if lines and lines[0].startswith("title |"):
            if title:
                found["title"] = lines[0][len("title |") :].strip()
            lines = lines[1:]
        rows = [[cell.strip() for cell in line.split(" | ")] for line in lines]
        if transposed:
            rows = list(itertools.zip_longest(*rows, fillvalue=""))
        for row in rows[1:]:
            for header, cell in zip(rows[0][1:], row[1:]):
                found[f"{row[0]} {header}"] = cell
        return list(found.items())

    def value(t, p):
        if as_float(p) is not None and as_float(t):
            distance = min(abs((as_float(t) - as_float(p)) / as_float(t)), 1)
            return 1 - (distance if distance < 0.1 else 1)
        return 1 if t == p else anls(t, p)

    best = (0.0, 0.0, -1.0)
    wanted = points(target, False)
    for transposed in (True, False):
        given = points(answer, transposed)
        if not given:
            best = max(best, (1.0, 0.0, 0.0), key=lambda x: x[2])
            continue
        cost = np.array([[1 - anls(t, p) - tie * value(v, w) for p, w in given] for t, v in wanted])
        rows, columns = linear_sum_assignment(cost)
        score = sum(anls(wanted[r][0], given[c][0]) * value(wanted[r][1], given[c][1]) for r, c in zip(rows, columns))
        precision, recall = score / len(given), score / len(wanted)
        f1 = 2 * precision * recall / (precision + recall) if score else 0.0
        best = max(best, (precision, recall, f1), key=lambda x: x[2])
    return best


def random_table(rng: random.Random) -> list[list[str]]:
    columns, rows = rng.sample(WORDS[:7], rng.randint(1, 4)), rng.sample(WORDS[7:], rng.randint(1, 5))
    cells = [[rng.choice([str(rng.randint(1, 500)), f"{rng.random() * 90 + 5:.1f}%", rng.choice(WORDS)]) for _ in columns] for _ in rows]
    return [["item", *columns], *([row, *cell] for row, cell in zip(rows, cells))]


def text(table) -> str:
    return "\n".join(" | ".join(row) for row in table)


def damaged(table, rng: random.Random) -> list[list[str]]:
    table = [list(row) for row in table]
    for row in table:
        for i, cell in enumerate(row):
            if rng.random() < 0.2 and len(cell) > 2:
                row[i] = cell[:-1]
            if rng.random() < 0.2 and cell.isdigit():
                row[i] = f"{int(cell) * rng.choice([1.02, 1.05, 1.5]):.2f}"
    if rng.random() < 0.3:
        table.append(["surplus", *["7"] * (len(table[0]) - 1)])
    return [list(row) for row in zip(*table)] if rng.random() < 0.3 else table


def test_the_values_published_with_deplot(rollout):
    assert rms(rollout, TARGET, ANSWER, include_title=True) == pytest.approx(1.99 / 3, abs=1e-12)
    assert rms(rollout, TRANSPOSED, ANSWER, include_title=True) == pytest.approx(1.99 / 3, abs=1e-12)
    assert rnss(rollout, "0.5 | foo | 0.6", "0.5 | foo | 0.6") == 1
    assert rnss(rollout, "baz | foo | 0.4", "0.5 | foo | 0.6", unmatched="free") == pytest.approx(0.875, abs=1e-12)
    assert rnss(rollout, "baz | foo | 0.4", "0.5 | foo | 0.6") == pytest.approx(0.375, abs=1e-12)


def test_a_matching_title_inflates_unless_it_is_left_out(rollout):
    table = "title | t\nx | y\na | 100"
    assert rms(rollout, table, "title | t\nx | y\na | 105", include_title=True) == pytest.approx(0.975)
    assert rms(rollout, table, "title | t\nx | y\na | 115", include_title=True) == pytest.approx(0.5)
    assert rms(rollout, table, "title | t\nx | y\na | 105") == pytest.approx(0.95)
    assert rms(rollout, table, "title | t\nx | y\na | 115") == 0.0


def test_the_batch_agrees_with_a_loop_over_pairs(rollout):
    rng = random.Random(0)
    same = 0
    for case in range(300):
        table = random_table(rng)
        answer, title = damaged(table, rng), "title | one\n" if case % 2 else ""
        row = rollout(f"<answer>{title}{text(answer)}</answer>", table=title + text(table))
        output = TableRms(include_title=bool(case % 2)).score([row])
        got = [output.parts["precision"].item(), output.parts["recall"].item(), output.scores.item()]
        texts = title + text(table), title + text(answer), bool(case % 2)
        assert got == pytest.approx(pairwise(*texts, tie=1e-9), abs=1e-9)
        published = pairwise(*texts, tie=0)
        assert got[2] >= published[2] - 1e-9, "breaking ties by values only helps"
        same += abs(got[2] - published[2]) < 1e-9
    assert same > 200


def test_rnss_agrees_with_a_loop(rollout):
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = rng.integers(1, 50, rng.integers(1, 7)), rng.integers(1, 50, rng.integers(1, 7))
        cost = [[min(1, abs(p - t) / t) for p in b] for t in a]
        best = min(
            sum(cost[i][j] for i, j in zip(rows, columns))
            for k in [min(len(a), len(b))]
            for rows in itertools.combinations(range(len(a)), k)
            for columns in itertools.permutations(range(len(b)), k)
        )
        longer, shorter = max(len(a), len(b)), min(len(a), len(b))
        texts = " | ".join(map(str, a)), " | ".join(map(str, b))
        assert rnss(rollout, *texts) == pytest.approx((shorter - best) / longer, abs=1e-9)
        assert rnss(rollout, *texts, unmatched="free") == pytest.approx(1 - best / longer, abs=1e-9)


def test_the_exact_table_scores_one_in_any_order_and_orientation(rollout):
    rng = random.Random(1)
    for _ in range(50):
        table = random_table(rng)
        columns = list(range(1, len(table[0])))
        rng.shuffle(columns)
        shuffled = [[row[0], *(row[c] for c in columns)] for row in [table[0], *rng.sample(table[1:], len(table) - 1)]]
        for answer in (table, shuffled, list(zip(*shuffled))):
            assert rms(rollout, text(table), text(answer)) == 1.0
    markdown = "| a | b |\n|---|:-:|\n| x | 1,000 |"
    assert rms(rollout, "a | b\nx | 1000", f"```markdown\n{markdown}\n```") == 1.0
    assert rms(rollout, "a | b\nx | 0.5", "a | b\nx | 50%") == 1.0


def test_row_order_cannot_change_a_score_even_where_headers_tie(rollout):
    target = "x | y\nc0 | 10\nc1 | 20"
    first, second = "x | y\nd0 | 20\nd1 | 10", "x | y\nd1 | 10\nd0 | 20"
    assert rms(rollout, target, first) == rms(rollout, target, second)


def test_zero_is_a_number(rollout):
    assert rms(rollout, "x | y\na | 0", "x | y\na | 0.0") == 1.0
    assert rms(rollout, "x | y\na | 0", "x | y\na | 0.01") == 0.0
    assert rnss(rollout, "0", "0") == 1.0
    assert rnss(rollout, "0", "0.01") == 0.0


def test_surplus_rows_lower_the_score_and_repeated_ones_do_not_raise_it(rollout):
    target = "x | y\na | 10\nb | 20"
    assert rms(rollout, target, target + "\nc | 30") == pytest.approx(0.8)
    assert rms(rollout, target, "x | y\na | 10\na | 10\na | 10") == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert rnss(rollout, "10 | 20", "10 | 10 | 10 | 20") == pytest.approx(0.5)
    long = "x | y\n" + "\n".join(f"row{i} | {i}" for i in range(5000))
    assert 0 <= rms(rollout, target, long) < 0.001
    assert 0 <= rnss(rollout, "10 | 20", long) < 0.001


@pytest.mark.parametrize("answer", ["", " ", "|", " | ", "title | my table", "no table", "nan | inf", "x" * 5000, "a | b\n" * 300])
def test_empty_and_malformed_answers_score_low(rollout, answer):
    assert rms(rollout, TARGET, answer) == 0.0
    assert rnss(rollout, TARGET, answer) == 0.0


def test_answers_without_tags(rollout):
    assert TableRms().score([rollout(TARGET, table=TARGET)]).scores.item() == 0.0
    assert TableRms(tags=False).score([rollout(TARGET, table=TARGET)]).scores.item() == 1.0


@pytest.mark.parametrize("reward", [TableRms, TableRnss])
def test_a_broken_target_costs_its_own_row_only(rollout, reward):
    good = f"<answer>{TARGET}</answer>"
    rows = [rollout(good, table=table) for table in (TARGET, "", 7, "a | b", TARGET)] + [rollout(good)]
    output = reward().score(rows)
    assert [error is None for error in output.errors] == [True, False, False, False, True, True]
    assert output.scores[[0, 4]].tolist() == [1.0, 1.0]
    assert output.scores[[1, 2, 3, 5]].isnan().all()


def test_hostile_answers_stay_in_bounds(rollout, hostile):
    for reward in (TableRms(), TableRnss(), TableRms(tags=False)):
        output = reward.score([rollout(text, table=TARGET) for text in hostile])
        assert output.errors == [None] * len(hostile)
        assert ((output.scores >= 0) & (output.scores <= 1)).all()


@given(st.text(alphabet='ab1 0.|%,-\n"tile', max_size=80), st.text(max_size=40))
def test_any_answer_stays_in_bounds(first, second):
    from vlreward.types import Rollout, Sample

    rows = [Rollout(sample=Sample(id="s", prompt="", target={"table": TARGET}), text=f"<answer>{a}</answer>") for a in (first, second)]
    for reward in (TableRms(), TableRnss()):
        output = reward.score(rows)
        assert output.errors == [None, None]
        assert ((output.scores >= 0) & (output.scores <= 1)).all()


def test_titles_and_headers_are_read(rollout):
    table = read_table("TITLE | A b\n | X | Y\n1 | 2 | 3")
    assert (table.title, table.rows) == ("a b", [["", "x", "y"], ["1", "2", "3"]])
