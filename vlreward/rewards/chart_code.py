"""Does generated matplotlib code draw the chart? It is run in the sandbox, and what it drew is judged."""

from __future__ import annotations

from dataclasses import dataclass

from vlreward.registry import register
from vlreward.rewards.chart_facts import color_f1, layout_f1, text_f1, type_f1
from vlreward.rewards.drawn import Drawn, Likeness
from vlreward.sandbox.pool import Drawing
from vlreward.types import Rollout


@register("chart_runs")
@dataclass(kw_only=True)
class ChartRuns(Drawn):
    """1 if the answered matplotlib script runs to its end and draws something that can be seen, else 0.

    The script is the last fenced block of the last `<answer>`, else of the text. It runs in the sandbox: see `vlreward.sandbox`.

    Source: the execution rate of ChartMimic (arXiv 2406.09961); an empty page counts as failed there too once it is looked at.

    Known cheats: an empty or invisible figure (0: pixels must differ from the paper); a script that never ends, by working or by sleeping
    (0; one that a busy machine kept waiting is an error of its row), or forges its result (worth what it really drew); any figure at all is
    worth 1 by design, so weigh in `chart_match` or use this as a gate.
    """

    needs = ("text",)
    reference = ""

    def grade(self, rollout: Rollout, answer: Drawing, wanted: Drawing | None) -> tuple[float, ...]:
        return (1.0,)


@register("chart_match")
@dataclass(kw_only=True)
class ChartMatch(Drawn):
    """Mean of text, layout, type and colour F1 between the chart that the answered script draws and that of `target.code`. In [0, 1].

    Text: the legible strings (tick labels only where they hold a letter). Layout: each panel's place in the grid of panels, measured from
    where the panels stand. Type: how often each plotting call (bar, plot, pie ...) left visible marks. Colour: the distinct colours of
    each kind of mark, 1 - CIEDE2000 / 100 alike, matched one to one. A script that fails, or draws nothing, scores 0.

    Source: the low-level score of ChartMimic (arXiv 2406.09961), which records calls instead of ink, drops all tick labels, takes the
    layout from the grid specification, and tries all permutations of colours.

    Known cheats: transparent, faded, tiny, covered or off-page strings and marks (only visible ink counts); listing many strings or calls
    (F1); tampering with the recorder (nothing is recorded in the script's process that it could not also draw: see `vlreward.sandbox`);
    wrong data under right words (not seen here: weigh in `chart_similarity` or `chart_rules`); colours are lenient, red for blue is 0.47.
    """

    needs = ("text", "target.code")
    part_names = ("text", "layout", "type", "color")

    def grade(self, rollout: Rollout, answer: Drawing, wanted: Drawing | None) -> tuple[float, ...]:
        assert wanted is not None, "chart_match needs target.code"
        parts = [measure(answer, wanted) for measure in (text_f1, layout_f1, type_f1, color_f1)]
        return sum(parts) / len(parts), *parts


@register("chart_similarity")
@dataclass(kw_only=True)
class ChartSimilarity(Likeness):
    """Likeness of the picture that the answered script draws to that of `target.code`, else to the sample's picture. In [0, 1].

    SSIM in colour, over the neighbourhood of everything that either picture draws, rescaled so that an empty page is worth 0; both at
    most 384 pixels wide and high. With `encoder` (a CLIP model as in `clip_score`) the cosine of its features, rescaled likewise.

    Source: SSIM as in scikit-image; the rescaling is ours: plain SSIM pays 0.76 for an empty page and 0.96 for wrong bars.

    Known cheats: an empty page (0); copying pixels into the script (more than 20,000 characters, or literals than a chart needs, are
    refused); reading the reference from a file (there is none in the sandbox); pixels say little about words and values, so weigh in
    `chart_match`.
    """
