"""Does an answered LaTeX formula say the same as the reference, token by token?"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from vlreward.registry import register
from vlreward.rewards.answers import Answered, references
from vlreward.types import Rollout

TOKEN = re.compile(r"\\(?:[A-Za-z]+|[\s\S]?)|\S")
COMMENT = re.compile(r"(?<!\\)%[^\n]*")
ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{(?:equation|displaymath|math)\*?\}|\\(?:label|tag)\*?\s*\{[^{}]*\}|\\nonumber\b|\\notag\b")
DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\[", r"\]"), (r"\(", r"\)"))
UNSEEN = frozenset(r"\, \; \: \! \> \quad \qquad \left \right \displaystyle \textstyle \limits \nolimits \big \Big \bigg \Bigg ~".split())
UNSEEN |= {"\\ ", "\\\n", "\\\t", *(rf"\{size}{side}" for size in ("big", "Big", "bigg", "Bigg") for side in "lr")}
"""Tokens that change spacing or size and nothing that is read."""
SPELLINGS = {
    r"\frac": r"\dfrac \tfrac \cfrac",
    r"\binom": r"\dbinom \tbinom",
    r"\leq": r"\le \leqslant",
    r"\geq": r"\ge \geqslant",
    r"\neq": r"\ne",
    r"\rightarrow": r"\to",
    r"\leftarrow": r"\gets",
    r"\wedge": r"\land",
    r"\vee": r"\lor",
    r"\{": r"\lbrace",
    r"\}": r"\rbrace",
    "|": r"\lvert \rvert \vert",
    "[": r"\lbrack",
    "]": r"\rbrack",
    r"\dots": r"\ldots \cdots",
    r"\mathbf": r"\bf \bm \boldsymbol",
    r"\mathrm": r"\rm \text \textrm \operatorname",
    r"\varnothing": r"\emptyset",
}
SAME = {spelling: usual for usual, spellings in SPELLINGS.items() for spelling in spellings.split()}
"""Spellings of what looks or reads alike."""
MAX_CHARACTERS = 20_000
"""A longer answer is no formula and is worth 0."""


@register("formula_similarity")
@dataclass(kw_only=True)
class FormulaSimilarity(Answered):
    r"""1 - edit distance / length of the longer one, in normalised LaTeX tokens, to the nearest of `target.formula`. In [0, 1].

    Normalised away: delimiters (`$`, `\[`), spacing, `\left` and `\right`, sizes, labels, comments, braces around one token, the order
    of sub- and superscript, and spellings such as `\dfrac` for `\frac` or `\le` for `\leq`. What is left is compared as written:
    `a+b` and `b+a` differ (for equivalence use `math_equal`).

    Source: formula edit distance as in im2latex (arXiv 1609.04938) and OmniDocBench (arXiv 2412.07626); the normalisation is ours.

    Known cheats: several formulas (surplus tokens lengthen the longer one); padding with spaces or empty braces (dropped, so nothing
    gained or lost); invisible content such as `\phantom{...}` (its tokens count like others).

    Example: {text: "<answer>$\\dfrac{1}{2} x^{2}$</answer>", target: {formula: "\\frac12 x^2"}} -> 1
    """

    needs = ("text", "target.formula")

    def one(self, rollout: Rollout) -> tuple[float, str]:
        options = [formula_tokens(option) for option in references(rollout.sample.target, "formula")]
        found = self.answer(rollout)
        if found is None:
            return 0.0, "no <answer>...</answer>"
        if len(found) > MAX_CHARACTERS:
            return 0.0, f"{len(found)} characters are no formula"
        answer = formula_tokens(found)
        return max(Levenshtein.normalized_similarity(answer, option) for option in options), f"read as {' '.join(answer)[:200]}"


def formula_tokens(latex: str) -> list[str]:
    """The normalised tokens of a formula."""
    text = ENVIRONMENT.sub(" ", COMMENT.sub("", latex)).strip()
    for opening, closing in DELIMITERS:
        if len(text) >= len(opening + closing) and text.startswith(opening) and text.endswith(closing):
            text = text[len(opening) : -len(closing)]
            break
    groups: list[list[list[str]]] = [[]]
    for token in TOKEN.findall(text):
        if token == "{":
            groups.append([])
        elif token == "}" and len(groups) > 1:
            inner = _sorted(groups.pop())
            groups[-1] += inner if len(inner) < 2 else [["{", *itertools.chain(*inner), "}"]]
        elif token not in UNSEEN:
            groups[-1].append([SAME.get(token, token)])
    rows = [[["{"], *_sorted(group)] for group in groups]
    return list(itertools.chain(*itertools.chain(*rows)))[1:]


def _sorted(pieces: list[list[str]]) -> list[list[str]]:
    """The pieces of a group, each a token or a group, with `^a_b` put as `_b^a`."""
    for i in range(len(pieces) - 3):
        if pieces[i] == ["^"] and pieces[i + 2] == ["_"]:
            pieces[i : i + 4] = [*pieces[i + 2 : i + 4], *pieces[i : i + 2]]
    return pieces
