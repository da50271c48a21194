"""What is told of a figure: exactly matplotlib's picture, and only what can be seen in it."""

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg

CHARTS = {
    "bars": "ax.bar(['a', 'b', 'c'], [3, 1, 2], color=['r', 'g', 'b'], label='sales')\nax.legend(title='Sales')\nplt.tight_layout()",
    "lines": "ax.plot([1, 2, 3], [3, 1, 2], 'o--')\nax.plot([1, 3], [1, 1], alpha=0.4)\nax.grid(True)\nax.set_yscale('log')",
    "pie": "ax.pie([1, 2, 3], labels=['x', 'y', 'z'], autopct='%1.0f%%')",
    "areas": "ax.fill_between([1, 2], [0, 1], [2, 3], alpha=0.3)\nax.stackplot([1, 2], [1, 1], [2, 1])\nax.axvspan(1.2, 1.4, hatch='//')",
    "fields": "z = np.arange(12.0).reshape(3, 4)\nplt.colorbar(ax.pcolormesh(z))\nax.contour(z, colors='k')\nax.quiver([1], [1], [1], [1])",
    "images": "plt.colorbar(ax.imshow(np.arange(12).reshape(3, 4)))",
    "boxes": "ax.boxplot([[1, 2, 3, 9], [2, 3, 4]], patch_artist=True)\nax.violinplot([[1, 2, 3], [2, 3, 4]])",
    "points": "ax.scatter(np.arange(9), np.arange(9) % 4, c=np.arange(9), s=np.arange(9) * 20)\nax.errorbar([1, 2], [1, 2], yerr=0.3)",
    "polar": "plt.clf()\nax = plt.subplot(projection='polar')\nax.bar([0, 1, 2], [1, 2, 3])",
    "solid": "plt.clf()\nax = plt.subplot(projection='3d')\nx, y = np.meshgrid(range(5), range(5))\nax.plot_surface(x, y, x * y)",
    "words": "ax.annotate('peak', (0.5, 0.5), (0.2, 0.8), arrowprops={})\nax.set_xlabel(r'$\\frac{x^2}{2}$', rotation=45)",
}
START = "import numpy as np\nimport matplotlib.pyplot as plt\nfig, ax = plt.subplots()\n"


@pytest.mark.parametrize("name", CHARTS)
def test_the_picture_is_matplotlib_s_to_the_pixel(sandbox, name):
    drawing = sandbox.draw(START + CHARTS[name] + "\nplt.savefig('chart.png', dpi=300)\nplt.close()")
    assert drawing.outcome == "drawn", drawing.message
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.use("agg")
        np.random.seed(0)
        exec(START + CHARTS[name], {})
        canvas = FigureCanvasAgg(pyplot.gcf())
        canvas.draw()
        wanted = np.asarray(canvas.buffer_rgba())[..., :3]
        pyplot.close("all")
    assert (drawing.pixels == wanted).all()


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("bars", ["bar"]),
        ("lines", ["plot", "plot"]),
        ("pie", ["pie"]),
        ("areas", ["axvspan", "fill_between", "stackplot"]),
        ("fields", ["colorbar", "contour", "pcolormesh", "quiver"]),
        ("images", ["colorbar", "imshow"]),
        ("boxes", ["boxplot", "violinplot"]),
        ("points", ["errorbar", "scatter"]),
        ("polar", ["bar"]),
        ("solid", ["plot_surface"]),
    ],
)
def test_each_plotting_call_is_one_mark(sandbox, name, kinds):
    assert sorted(kind for kind, _ in sandbox.draw(START + CHARTS[name]).marks) == kinds


def test_texts_colours_and_panels_are_read_off(sandbox):
    drawing = sandbox.draw(START + CHARTS["bars"])
    assert [text for text, tick in drawing.texts if not tick] == ["Sales", "sales"]
    assert [text for text, tick in drawing.texts if tick][:3] == ["a", "b", "c"]
    assert drawing.marks == (("bar", ("#0000ff", "#008000", "#ff0000")),)
    assert len(drawing.boxes) == 1
    assert drawing.size == (640, 480)
    assert 0 < drawing.ink < 1
    four = sandbox.draw("import matplotlib.pyplot as plt\nfig, ax = plt.subplots(2, 2)\nax[1, 1].inset_axes([0.1, 0.1, 0.3, 0.3])")
    assert len(four.boxes) == 5


@pytest.mark.parametrize(
    "hidden",
    [
        "ax.text(0.5, 0.5, 'hidden', alpha=0)",
        "ax.text(0.5, 0.5, 'hidden', color='white')",
        "ax.text(0.5, 0.5, 'hidden', color='#f4f4f4')",
        "ax.text(0.5, 0.5, 'hidden', color='#e0e0e0')",
        "ax.text(0.5, 0.5, 'hidden', fontsize=2)",
        "ax.text(5, 5, 'hidden')",
        "ax.text(0.97, 0.5, 'hidden in the main, for only the first of its letters is on the page', clip_on=True)",
        "ax.text(0.5, 0.5, 'hidden', visible=False)",
        "ax.text(0.5, 0.5, 'hidden')\nax.add_patch(plt.Rectangle((0, 0), 1, 1, color='white', zorder=9))",
        "ax.text(0.5, 0.5, 'hidden')\nfig.add_axes([0, 0, 1, 1]).plot([1, 2])",
        "ax.text(0.5, 0.5, 'hidden')\nfor i in range(20): ax.add_patch(plt.Rectangle((0, 0), 1, 1, color='white', alpha=0.89, zorder=9))",
        "ax.text(0.5, 0.5, 'hidden')\nfor i in range(99): ax.add_patch(plt.Rectangle((0, 0), 1, 1, color='white', alpha=0.05, zorder=9))",
        "ax.text(0.5, 0.5, 'hidden', size=40)\nax.add_patch(plt.Rectangle((0, 0), 1, 1, color='#0f0f0f', zorder=9))",
        "ax.text(0.5, 0.5, 'hidden for two thirds', ha='center')\nax.add_patch(plt.Rectangle((0, 0), 0.56, 1, color='white', zorder=9))",
        "ax.text(0.5, 0.5, '\u200b\u200b')",
        "ax.bar([0.5], [0.5], alpha=0)",
        "ax.bar([0.5], [0.5], color='white')",
        "ax.bar([0.5], [0.5])\nax.add_patch(plt.Rectangle((0, 0), 1, 1, color='white', zorder=9))",
        "ax.bar([0.5], [0.5])\nfor i in range(20): ax.add_patch(plt.Rectangle((0, 0), 1, 1, color='white', alpha=0.89, zorder=9))",
        "ax.bar([0.5], [0.5])\nfor i in range(99): ax.add_patch(plt.Rectangle((0, 0), 1, 1, color='white', alpha=0.05, zorder=9))",
        "ax.bar([0.5], [0.5])\nfor z in (0.3, 1): ax.add_patch(plt.Rectangle((0, 0), 1, 1, color='white', alpha=z, zorder=8 + z))",
        "ax.bar([7], [0.5])\nax.set_xlim(0, 1)",
        "ax.plot([0.2, 0.8], [0.5, 0.5], lw=0)",
        "ax.scatter([0.5], [0.5], s=1e-9)",
        "ax.imshow(np.full((4, 4, 4), 255, np.uint8), extent=(0, 1, 0, 1))",
    ],
)
def test_what_cannot_be_seen_is_not_told(sandbox, hidden):
    drawing = sandbox.draw(START + "ax.set(xlim=(0, 1), ylim=(0, 1))\nax.set_title('shown')\n" + hidden)
    assert drawing.outcome == "drawn", drawing.message
    assert not [text for text, tick in drawing.texts if "hidden" in text or not text.strip("\u200b")]
    assert not {"bar", "imshow", "scatter"} & {kind for kind, _ in drawing.marks}
    if "text(" in hidden and "add_axes" not in hidden:
        assert "shown" in [text for text, _ in drawing.texts] or "Rectangle" in hidden


def test_a_transparent_colour_is_no_colour_of_its_mark(sandbox):
    drawing = sandbox.draw(START + "ax.scatter([1, 2], [1, 2], c=[(1, 0, 0, 1), (0, 0, 1, 0)])")
    assert drawing.marks == (("scatter", ("#ff0000",)),)


def test_overlapping_translucent_marks_are_all_seen(sandbox):
    drawing = sandbox.draw(
        START + "ax.bar([1], [2], alpha=0.5)\nax.bar([1.1], [2], alpha=0.5)\nax.text(1, 1, 'on top')\nax.axvspan(0, 2, alpha=0.2)"
    )
    assert [kind for kind, _ in drawing.marks].count("bar") == 2
    assert ("on top", False) in drawing.texts


def test_the_last_figure_saved_counts_else_the_current_one(sandbox):
    title = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.title('{}')\n"
    saved = title.format("first") + "plt.savefig('a.png')\nplt.close()\n"
    assert ("first", False) in sandbox.draw(saved).texts
    assert ("second", False) in sandbox.draw(saved + saved.replace("first", "second")).texts
    assert ("second", False) in sandbox.draw(title.format("second") + "plt.show()").texts
    assert ("open", False) in sandbox.draw(title.format("open")).texts
    assert sandbox.draw(saved + "1 / 0").outcome == "error"
    assert sandbox.draw("import matplotlib.pyplot as plt").outcome == "no_figure"
    assert not sandbox.draw("import matplotlib.pyplot as plt\nplt.figure()").drawn


def forged(header: str) -> str:
    return f"import json, os, struct\ntext = json.dumps({header}).encode()\nos.write(3, struct.pack('<I', len(text)) + text)\nos._exit(0)"


CLAIMS = {
    "outcome": "drawn", "message": "", "size": [64, 64], "axes": [[0, 0, 64, 64]], "operations": [], "ink": 1.0, "score": 1.0,
    "texts": [["Sales", False]], "marks": [["bar", ["#ff0000"]]], "boxes": [[0, 0, 1, 1]],
}  # fmt: skip


def test_claims_in_a_forged_document_are_not_heard(sandbox):
    drawing = sandbox.draw(forged(str(CLAIMS)))
    assert (drawing.texts, drawing.marks, drawing.boxes, drawing.ink, drawing.drawn) == ((), (), (), 0.0, False)


@pytest.mark.parametrize(
    "change",
    [
        "{'size': [10**6, 10**6]}",
        "{'size': [0, 0]}",
        "{'size': 'big'}",
        "{'operations': 'none'}",
        "{'operations': [[]] * 60_000}",
        "{'operations': [['path', [None, '', None, 1], {}, 1, 2, 3]]}",
        "{'operations': [['exec', [None, '', None, 1], {}, '1']]}",
        "{'operations': [['text', [0, '', {}, []], {}, 0, 0, 'x', [], 0, False]]}",
        "{'axes': [['a']]}",
        "{'axes': 5}",
        "{'outcome': ['drawn']}",
    ],
)
def test_a_malformed_document_is_a_failed_script(sandbox, change):
    drawing = sandbox.draw(forged(f"{CLAIMS} | {change}"))
    assert drawing.outcome == "error"
    assert sandbox.alive


@pytest.mark.parametrize(
    "junk", [b"", b"\x00", b"\xff" * 50, b"\x04\x00\x00\x00null", b"\x02\x00\x00\x00[]" * 3, b"\xff\xff\xff\x7f{}", b"[" * 10**5]
)
def test_bytes_that_are_no_document_are_a_failed_script(sandbox, junk):
    drawing = sandbox.draw(f"import os\nos.write(3, bytes.fromhex({junk[:1500].hex()!r}) * {max(1, len(junk) // 1500)})\nos._exit(0)")
    assert drawing.outcome in ("error", "no_figure")


def test_a_pickle_in_place_of_the_figure_is_never_loaded(sandbox):
    code = "import os, pickle\nclass Bad:\n    def __reduce__(self): return os.abort, ()\nos.write(3, pickle.dumps(Bad()))\nos._exit(0)"
    assert sandbox.draw(code).message == "the figure cannot be drawn (Broken)"


def test_tampering_with_recorder_replay_and_measure_changes_nothing(sandbox):
    code = """
import sys
import vlreward.sandbox.inside.measure as measure, vlreward.sandbox.inside.record as record
import vlreward.sandbox.inside.replay as replay, vlreward.sandbox.inside.zygote as zygote
lie = {'texts': [['Sales', False]], 'marks': [['bar', ['#ff0000']]], 'boxes': [[0, 0, 1, 1]], 'ink': 1.0}
measure.measure = measure.marks = measure.panels = lambda *a: lie
replay.Replay = zygote.judge = zygote.verdict = zygote.send = lambda *a: lie
replay.INK = replay.LEGIBLE = replay.SMALLEST_TEXT = 0
import matplotlib.pyplot as plt
plt.plot([1, 2])
plt.title('honest')
plt.text(0.5, 1.5, 'Sales', alpha=0)
"""
    drawing = sandbox.draw(code)
    assert [text for text, tick in drawing.texts if not tick] == ["honest"]
    assert drawing.marks == (("plot", ("#1f77b4",)),)


def test_hidden_ink_is_not_vouched_for_by_other_ink_that_claims_to_be_of_the_same_artist(sandbox):
    code = """
import vlreward.sandbox.inside.record as record
add = record.Recorder.add
def claim(self, *args, **kwargs):
    add(self, *args, **kwargs)
    self.operations[-1][1][3] = 1
record.Recorder.add = claim
ax.text(0.5, 0.5, 'hidden')
ax.bar([0.5], [0.5])
ax.add_patch(plt.Rectangle((0, 0), 1, 1, color='white', zorder=9))
"""
    drawing = sandbox.draw(START + "ax.set(xlim=(0, 1), ylim=(0, 1))" + code)
    assert drawing.drawn
    assert "hidden" not in [text for text, _ in drawing.texts]
    assert "bar" not in [kind for kind, _ in drawing.marks]


def test_a_call_s_name_is_believed_only_where_its_ink_agrees(sandbox):
    line = START + "line = ax.plot([1, 2], [3, 4])[0]\n"
    assert [kind for kind, _ in sandbox.draw(line + "line.set_gid('1:bar')").marks] == ["line"]
    assert [kind for kind, _ in sandbox.draw(line + "line.set_gid('1:nonsense')").marks] == ["line"]
    assert [kind for kind, _ in sandbox.draw(line + "line.set_gid('7:step')").marks] == ["step"], "a step is a line, and so may be drawn"


def test_a_panel_that_holds_no_ink_is_no_panel(sandbox):
    moved = START + "ax.plot([1, 2])\nfig.add_axes([0.1, 0.1, 0.2, 0.2]).set_axis_off()"
    assert len(sandbox.draw(moved).boxes) == 1
