import itertools
from collections import Counter

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from PIL import Image

from vlreward.data.media import Clip, Picture
from vlreward.errors import ConfigError
from vlreward.rewards.chart_code import ChartMatch, ChartRuns, ChartSimilarity
from vlreward.rewards.drawn import read_source
from vlreward.sandbox.pool import Drawing, Pool
from vlreward.sandbox.wall import check

HEAD = "import matplotlib.pyplot as plt\n"
CHART = (
    HEAD
    + """fig, ax = plt.subplots(1, 2)
ax[0].bar(['a', 'b', 'c'], [1, 2, 3], color=['r', 'g', 'b'])
ax[0].set_title('Sales')
ax[1].plot([1, 2, 3], [3, 1, 2], label='trend')
ax[1].legend()
plt.savefig('chart.png')"""
)


@pytest.fixture(scope="module", autouse=True)
def _sandbox():
    try:
        check()
    except ConfigError as error:
        pytest.skip(str(error))


def test_the_reference_itself_scores_one_however_it_is_wrapped(score):
    answers = [
        CHART,
        f"Here it is:\n```python\n{CHART}\n```\nDone.",
        f"<answer>```python\n{CHART}\n```</answer>",
        f"```py\nx\n```\n```\n{CHART}",
    ]
    for reward in (ChartRuns(), ChartMatch(), ChartSimilarity(), ChartSimilarity(encoder="assets/tiny-clip")):
        assert score(reward, *answers, code=CHART) == pytest.approx([1.0] * 4)


def test_each_of_the_four_parts_sees_its_own_mistake(rollout):
    wrong = {
        "text": CHART.replace("Sales", "Costs"),
        "layout": CHART.replace("1, 2)", "2, 1)"),
        "type": CHART.replace("plot(", "scatter("),
        "color": CHART.replace("['r', 'g', 'b']", "['k', 'k', 'k']"),
    }
    output = ChartMatch().score([rollout(code, code=CHART) for code in wrong.values()])
    for row, part in enumerate(wrong):
        low = {name for name, values in output.parts.items() if values[row] < 1}
        assert low == ({"type", "color"} if part == "type" else {part})
    assert output.parts["text"][0] == pytest.approx(2 * 4 / 10), "4 of 5 strings: a b c trend"
    assert output.parts["layout"][1] == 0
    assert output.parts["type"][2] == pytest.approx(0.5)
    assert output.scores[0] == pytest.approx((0.8 + 1 + 1 + 1) / 4)


def test_failures_score_zero_and_say_why(rollout):
    answers = [
        "",
        "no code",
        HEAD,
        HEAD + "plt.figure()",
        HEAD + "plt.plot([1, 2])\n1 / 0",
        "def",
        HEAD + "plt.plot([1, 2], alpha=0)\nplt.axis('off')",
    ]
    for reward in (ChartRuns(), ChartMatch(), ChartSimilarity()):
        output = reward.score([rollout(answer, code=CHART) for answer in answers])
        assert output.errors == [None] * len(answers)
        assert output.scores.tolist() == [0.0] * len(answers)
        assert all(output.notes)
        assert all(values.tolist() == [0.0] * len(answers) for values in output.parts.values())
    assert "ZeroDivisionError" in output.notes[4]
    assert "empty page" in output.notes[3]


def test_junk_and_order_do_not_help(score):
    junk = "\nfig.text(0.4, 0.5, 'junk')\nax[1].scatter([1, 2], [1, 2])"
    moved = CHART.replace("ax[0].set_title('Sales')\n", "").replace("plt.savefig", "ax[0].set_title('Sales')\nplt.savefig")
    plain, order, surplus, twice = score(
        ChartMatch(), CHART, moved, CHART.replace("\nplt.savefig", junk + "\nplt.savefig"), f"{CHART}\n{CHART}", code=CHART
    )
    assert plain == order == 1
    assert twice == 1, "the last figure counts, and it is right"
    assert surplus < 0.9


def test_a_wrong_chart_is_far_from_a_right_one_in_pixels_too(score):
    empty = HEAD + "fig, ax = plt.subplots(1, 2)"
    shifted = CHART.replace("[1, 2, 3], color", "[1.02, 2, 3], color")
    near, values, other, frame = score(
        ChartSimilarity(), shifted, CHART.replace("[1, 2, 3], color", "[3, 1, 2], color"), HEAD + "plt.pie([1, 2])", empty, code=CHART
    )
    assert near > 0.95 > 0.85 > values > other
    assert 0 <= frame < 0.8


def test_a_picture_can_stand_in_for_the_code(rollout):
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        exec(CHART.replace("plt.savefig('chart.png')", ""), {})
        canvas = FigureCanvasAgg(pyplot.gcf())
        canvas.draw()
        picture = Picture(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))
        pyplot.close("all")
    output = ChartSimilarity().score(
        [rollout(CHART, visuals=[picture]), rollout(CHART), rollout(CHART, visuals=[Clip([picture])]), rollout("", visuals=[])]
    )
    assert output.scores[0] == pytest.approx(1.0), "the sandbox draws what matplotlib draws"
    assert output.scores[[1, 2, 3]].isnan().all()
    assert [error is None for error in output.errors] == [True, True, False, True]


@pytest.mark.parametrize("broken", ["", 7, "1 / 0", HEAD + "plt.figure()"])
def test_a_broken_reference_costs_its_own_row_only(rollout, broken):
    rows = [rollout(CHART, code=broken), rollout(CHART, code=CHART)]
    for reward in (ChartMatch(), ChartSimilarity()):
        output = reward.score(rows)
        assert "target.code" in (output.errors[0] or "")
        assert output.errors[1] is None
        assert output.scores[1] == 1
    assert ChartRuns().score(rows).scores.tolist() == [1.0, 1.0]
    assert ChartMatch().score([rollout(CHART)]).scores.isnan().all()


def test_a_broken_sandbox_is_an_error_and_not_a_zero(rollout, monkeypatch):
    monkeypatch.setattr(Pool, "run", lambda self, sources, kind="python": [Drawing(outcome="broken", message="gone") for _ in sources])
    for reward in (ChartRuns(), ChartMatch()):
        output = reward.score([rollout(CHART, code=CHART)])
        assert output.errors == ["the sandbox failed: gone"]


def test_copying_the_picture_as_literals_is_refused(score):
    pixels = np.full((60, 60), 7).tolist()
    copied = HEAD + f"plt.imshow({pixels})"
    assert score(ChartRuns(), copied, HEAD + "import base64\nx = '" + "A" * 9000 + "'\nplt.plot([1, 2])") == [1.0, 0.0]
    assert score(ChartRuns(), HEAD + f"plt.imshow({np.full((80, 80), 7).tolist()})") == [0.0]


def test_any_answer_stays_in_bounds(rollout, hostile):
    output = ChartMatch().score([rollout(text, code=CHART) for text in hostile[:40]])
    assert output.errors == [None] * 40
    assert ((output.scores >= 0) & (output.scores <= 1)).all()


def test_hidden_words_and_marks_do_not_raise_the_score(score):
    poor = HEAD + "fig, ax = plt.subplots(1, 2)\nax[1].plot([1, 2, 3], [3, 1, 2])"
    hidden = poor + "\nfor t in ('Sales', 'trend', 'a', 'b', 'c'): fig.text(0.5, 0.5, t, alpha=0)\nax[0].bar([1], [1], color='r', alpha=0)"
    behind = poor + "\nfor t in ('Sales', 'trend', 'a', 'b', 'c'): fig.text(0.5, 0.5, t, zorder=-9)\nfig.add_axes([0, 0, 1, 1])"
    first, second, third = score(ChartMatch(), poor, hidden, behind, code=CHART)
    assert second == first
    assert third <= first


def test_the_source_is_the_last_block_of_the_last_answer():
    assert read_source("```python\na\n```\n```svg\nb\n```") == "b"
    assert read_source("```a\n1\n```<answer>x</answer>") == "x"
    assert read_source("```python\nunfinished") == "unfinished"
    assert read_source(" plain ") == "plain"
    assert read_source("") == ""


PLAIN = [
    "ax.bar([1, 2], [3, 4], color='#aa0000')\nax.set_title('one')",
    "ax.plot([1, 2], [3, 4], color='#00aa00')\nax.plot([1, 2], [4, 3], color='#0000aa')\nax.set_title('one')\nax.set_xlabel('time')",
    "ax.scatter([1, 2], [3, 4], color='#aa0000')\nax.bar([1, 2], [3, 4], color='#aa00aa')\nax.set_title('two')\nax.set_title('one', loc='left')",  # noqa: E501
    "plt.clf()\nfig.subplots(2, 2)\nfig.axes[3].barh([1, 2], [3, 4], color='#123456')\nfig.suptitle('two')",
    "plt.clf()\nfig.subplots(1, 2)\nfig.axes[0].pie([1, 2], colors=['#ff0000', '#00ff00'], labels=['x', 'y'])\nfig.axes[1].plot([1, 2], color='#ff0000')",  # noqa: E501
]


def low_level(code: str, monkeypatch) -> dict:
    """What ChartMimic's evaluators log, in this process: patched plotting calls, texts at drawing time, grid specifications, artists' colours."""  # noqa: E501
    log: dict = {"type": Counter(), "text": Counter(), "color": {}}
    inside: list[str] = []

    def counted(method, name):
        def call(self, *args, **kwargs):
            inside.append(name)
            result = method(self, *args, **kwargs)
            inside.pop()
            if not inside:
                log["type"][name] += 1
                parts = result[0] if name == "pie" else list(result) if name in ("bar", "barh", "plot") else [result]
                for part in parts:
                    color = part.get_color() if name == "plot" else np.atleast_2d(part.get_facecolor())[0]
                    log["color"].setdefault(name, set()).add(matplotlib.colors.to_hex(color))
            return result

        return call

    with monkeypatch.context() as patch, matplotlib.rc_context():
        matplotlib.rcdefaults()
        for name in ("bar", "barh", "plot", "scatter", "pie"):
            patch.setattr(Axes, name, counted(getattr(Axes, name), name))
        exec("import numpy as np\nimport matplotlib.pyplot as plt\nfig, ax = plt.subplots()\n" + code, {})
        figure = pyplot.gcf()
        for axes in figure.axes:
            axes.set_xticks([])
            axes.set_yticks([])
        draw_text = RendererAgg.draw_text

        def logged(self, gc, x, y, s, *args, **kwargs):
            log["text"][s] += 1
            return draw_text(self, gc, x, y, s, *args, **kwargs)

        patch.setattr(RendererAgg, "draw_text", logged)
        FigureCanvasAgg(figure).draw()
        spans = [axes.get_subplotspec() for axes in figure.axes]
        log["layout"] = Counter(
            (*s.get_gridspec().get_geometry(), s.rowspan.start, s.rowspan.stop, s.colspan.start, s.colspan.stop) for s in spans
        )
        pyplot.close("all")
    return log


def low_level_f1(answer: dict, wanted: dict) -> dict[str, float]:
    from skimage.color import deltaE_ciede2000, rgb2lab

    def f1(common, a, w):
        return 2 * common / (a + w) if common else 0.0

    scores = {
        name: f1((answer[name] & wanted[name]).total(), answer[name].total(), wanted[name].total()) for name in ("text", "layout", "type")
    }
    lab = lambda color: rgb2lab([[matplotlib.colors.to_rgb(color)]])[0, 0]  # noqa: E731
    common = 0.0
    for kind in answer["color"].keys() & wanted["color"].keys():
        short, long = sorted((sorted(answer["color"][kind]), sorted(wanted["color"][kind])), key=len)
        common += max(
            sum(max(0, 1 - deltaE_ciede2000(lab(a), lab(b)) / 100) for a, b in zip(short, order))
            for order in itertools.permutations(long, len(short))
        )
    counts = [sum(map(len, side["color"].values())) for side in (answer, wanted)]
    return scores | {"color": f1(common, *counts)}


def test_the_parts_agree_with_a_recorder_of_calls_on_honest_charts(rollout, monkeypatch):
    logs = [low_level(code, monkeypatch) for code in PLAIN]
    start = "import numpy as np\nimport matplotlib.pyplot as plt\nfig, ax = plt.subplots()\n"
    pairs = list(itertools.product(range(len(PLAIN)), repeat=2))
    output = ChartMatch().score([rollout(start + PLAIN[a], code=start + PLAIN[w]) for a, w in pairs])
    assert output.errors == [None] * len(pairs)
    worst = 0.0
    for row, (a, w) in enumerate(pairs):
        for name, value in low_level_f1(logs[a], logs[w]).items():
            worst = max(worst, abs(value - output.parts[name][row].item()))
    assert worst < 1e-6
