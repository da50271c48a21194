import pytest

from vlreward.rewards.chart_rules import ChartRules, read_script, series_f1

CHART = """import matplotlib.pyplot as plt
fig, axes = plt.subplots(1, 2, figsize=(8, 4))
names = ['north', 'south', 'east']
axes[0].bar(names, [10, 20, 30], color=['red', 'green', 'blue'])
axes[0].set_title('Sales')
axes[1].plot([1, 2, 3], [3, 1, -2], label='trend', color='#123456')
axes[1].legend()
plt.savefig('chart.png')"""


def score(rollout, answer: str, code=CHART, **target) -> tuple[float, dict[str, float]]:
    output = ChartRules().score([rollout(answer, code=code, **target)])
    assert output.errors == [None], output.errors
    parts = (part.rsplit(" ", 1) for part in output.notes[0].split(", ")) if "no plotting" not in output.notes[0] else ()
    return output.scores.item(), {name: float(value) for name, value in parts}


def test_a_script_is_read_in_five_dimensions():
    script = read_script(CHART)
    assert script is not None
    assert script.calls == {"bar": 1, "plot": 1}
    assert script.grids == {(1, 2): 1}
    assert script.texts == {"north": 1, "south": 1, "east": 1, "Sales": 1, "trend": 1}
    assert script.colors == ["#ff0000", "#008000", "#0000ff", "#123456"]
    assert script.series == [[10, 20, 30], [1, 2, 3], [3, 1, -2]]


@pytest.mark.parametrize(
    ("call", "grid"),
    [
        ("plt.subplot(2, 3, 1)", (2, 3)),
        ("plt.subplot(231)", (2, 3)),
        ("fig.add_subplot(1, 1, 1)", (1, 1)),
        ("plt.subplots()", (1, 1)),
        ("plt.subplots(nrows=2)", (2, 1)),
        ("plt.subplots(2, ncols=4)", (2, 4)),
        ("GridSpec(3, 3)", (3, 3)),
        ("plt.subplot2grid((3, 2), (0, 1))", (3, 2)),
        ("plt.subplots(n, m)", (1, 1)),
    ],
)
def test_grids_are_read_however_they_are_asked_for(call, grid):
    script = read_script(call)
    assert script is not None
    assert script.grids == {grid: 1}


def test_the_reference_scores_one_and_each_mistake_costs_its_part(rollout):
    assert score(rollout, f"```python\n{CHART}\n```")[0] == 1
    mistakes = {
        "type": CHART.replace(".bar(", ".barh("),
        "layout": CHART.replace("subplots(1, 2", "subplots(2, 1"),
        "text": CHART.replace("Sales", "Costs"),
        "color": CHART.replace("'red', ", "'white', "),
        "data": CHART.replace("20, 30]", "30, 20]"),
    }
    for name, code in mistakes.items():
        total, parts = score(rollout, code)
        assert [part for part, value in parts.items() if value < 1] == [name]
        assert total == pytest.approx(sum(parts.values()) / 5, abs=0.01)
    assert score(rollout, mistakes["text"])[1]["text"] == 0.8


def test_data_is_compared_number_by_number_in_order():
    assert series_f1([[1, 2, 4]], [[1, 2, 4]]) == 1
    assert series_f1([[2, 1, 4]], [[1, 2, 4]]) == pytest.approx((0 + 0.5 + 1) * 2 / 6)
    assert series_f1([[5, 6], [1, 2]], [[1, 2], [5, 6]]) == 1, "the order of series is free"
    assert series_f1([[1, 2], [9, 9]], [[1, 2]]) == pytest.approx(2 * 2 / 6)
    assert series_f1([], [[1, 2]]) == 0
    many = [[10.0**i, 10.0**i] for i in range(60)]
    assert series_f1(many, many) == pytest.approx(50 / 60), "further series only count"
    assert series_f1([[float(i) for i in range(1000)]] * 100, [[1, 2]]) < 0.001


def test_a_table_replaces_the_reference_s_numbers(rollout):
    table = "item | value\nnorth | 10\nsouth | 20\neast | 30"
    assert score(rollout, "plt.bar(['north', 'south', 'east'], [10, 20, 30])", code="plt.bar(names, values)", table=table)[1]["data"] == 1
    assert score(rollout, "plt.bar(['north', 'south', 'east'], [10, 20])", code="plt.bar(names, values)", table=table)[1]["data"] == 0.67


def test_a_reference_without_numbers_leaves_the_data_out(rollout):
    assert "data" not in score(rollout, CHART, code="plt.bar(names, values)")[1]


def test_one_word_alone_in_a_list_is_shown_too():
    script = read_script("plt.legend(['only'])")
    assert script is not None
    assert script.texts == {"only": 1}


def test_surplus_lowers_the_score(rollout):
    plain = score(rollout, CHART)[0]
    for junk in ("\nplt.pie([1, 2])", "\nplt.title('junk')", "\nx = [5, 6, 7]", "\nplt.plot(x, color='lime')", "\nplt.subplots(9, 9)"):
        assert score(rollout, CHART + junk)[0] < plain


@pytest.mark.parametrize(
    "answer", ["", "no python at all", "def", "a\0b", "(" * 5000, "-" * 9000 + "1", "1" + "+1" * 9000, "x = 1", "#" * 30_000, "\ud800"]
)
def test_what_is_no_plotting_script_scores_zero(rollout, answer):
    assert score(rollout, answer)[0] == 0


def test_hostile_answers_stay_in_bounds(rollout, hostile):
    output = ChartRules().score([rollout(text, code=CHART) for text in hostile])
    assert output.errors == [None] * len(hostile)
    assert ((output.scores >= 0) & (output.scores <= 1)).all()


@pytest.mark.parametrize("target", [{"code": "def"}, {"code": 5}, {"code": CHART, "table": 5}])
def test_a_broken_reference_costs_its_own_row_only(rollout, target):
    output = ChartRules().score([rollout(CHART, **target), rollout(CHART, code=CHART), rollout(CHART)])
    assert [error is None for error in output.errors] == [False, True, True]
    assert output.scores[1] == 1
    assert output.scores[2].isnan()
