"""Do an answered SVG or table look like the wanted ones when they are rendered?"""

from __future__ import annotations

from dataclasses import dataclass

from vlreward.errors import ConfigError, DataError
from vlreward.registry import register
from vlreward.rewards.answers import Answered
from vlreward.rewards.drawn import Likeness
from vlreward.rewards.picture_similarity import perceptual, structural
from vlreward.rewards.table_picture import draw_tables, read_grid
from vlreward.types import Rollout


@register("svg_similarity")
@dataclass(kw_only=True)
class SvgSimilarity(Likeness):
    """Likeness of the answered SVG, rendered, to `target.svg`, else to the sample's picture. In [0, 1].

    SSIM in colour over the neighbourhood of everything that either picture draws, rescaled so that an empty page is worth 0; or, with
    `encoder` (a CLIP model as in `clip_score`), the cosine of its features, rescaled likewise. The SVG is the last fenced block of the
    last `<answer>`, else of the text; it is rendered on white at 768 pixels, in matplotlib's fonts. What cannot be rendered scores 0.

    Source: render-and-compare as in Visual-ERM (arXiv 2603.13224), which asks a judge model instead; SSIM as in scikit-image; rendering
    by resvg.

    Known cheats: an empty page (0); embedded pictures, references to files and addresses, scripts and entities (refused, 0); shapes
    nested into millions, giant blurs (cut off by the sandbox's limits, 0); pixels say little about words: weigh in an OCR
    reward where they matter.
    """

    language = "svg"
    reference = "svg"

    def load(self, device: str) -> None:
        try:
            import resvg_py  # noqa: F401 - it renders inside of the sandbox
        except ImportError as error:
            raise ConfigError("rendering SVG needs the extra 'chart': pip install 'vlreward[chart]'") from error
        super().load(device)


@register("table_similarity")
@dataclass(kw_only=True)
class TableSimilarity(Answered):
    """Likeness of the answered table to `target.table`, both drawn as pictures with cells of one size. In [0, 1].

    Tables are HTML, Markdown or rows of cells by ' | '. Spans of rows and columns are drawn. Compared as in `svg_similarity`, at full
    size. No table scores 0.

    Source: render-and-compare as in Visual-ERM (arXiv 2603.13224), by SSIM instead of a judge model and without a browser.

    Known cheats: an empty frame of the right shape (0: only texts are drawn, in the middle of what their cells cover); letters that look
    alike, and all those that the font lacks (compare text with `teds` or `table_rms` beside this); text after the first 14 letters of a
    cell and cells after the first 60 rows or 20 columns are not drawn.
    """

    encoder: str = ""
    """A CLIP model as in `clip_score`, whose features are compared instead of pixels."""
    needs = ("text", "target.table")

    def load(self, device: str) -> None:
        try:
            import lxml.html  # noqa: F401
            import skimage.metrics  # noqa: F401
        except ImportError as error:
            raise ConfigError("comparing tables needs the extras 'chart' and 'tables': pip install 'vlreward[chart,tables]'") from error
        self._device = device

    def one(self, rollout: Rollout) -> tuple[float, str]:
        table = rollout.sample.target["table"]
        wanted = read_grid(table) if isinstance(table, str) else []
        if not wanted:
            raise DataError(f"target.table is {str(table)[:80]!r}, expected a table in HTML, Markdown or rows of cells by ' | '")
        answer = read_grid(self.answer(rollout) or "")
        if not answer:
            return 0.0, "no table"
        first, second = draw_tables(wanted, answer)
        if self.encoder:
            return perceptual(first, second, self.encoder, self._device), ""
        return structural(first, second, side=None), ""
