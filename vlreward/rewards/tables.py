"""Does an answered table have the rows, columns, spans and contents of the reference?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from rapidfuzz.distance import Levenshtein

from vlreward.errors import ConfigError, DataError
from vlreward.registry import register
from vlreward.rewards.answers import Answered
from vlreward.types import Rollout

MAX_NODES = 500
"""Rows, cells and sections of a reference; tree edit distance takes seconds beyond."""
RULE = re.compile(r"\s*+:?+-++:?+\s*+")
BAR = re.compile(r"(?<!\\)\|")
SECTIONS = ("thead", "tbody", "tfoot")


@dataclass(frozen=True)
class Node:
    """A table, section, row or cell. Header cells are cells: what tells them apart is the section that they stand in."""

    tag: str
    columns: int = 1
    rows: int = 1
    text: str = ""
    children: tuple[Node, ...] = field(default=())

    @property
    def size(self) -> int:
        """Nodes below this one."""
        return sum(1 + child.size for child in self.children)


@register("teds")
@dataclass(kw_only=True)
class Teds(Answered):
    r"""Similarity of an answered table to `target.table` by tree edit distance (TEDS). In [0, 1].

    1 - distance / nodes of the larger tree (rows, cells, thead and tbody). Renaming costs 1 where tag or spans differ, and for cells
    the edit distance of their texts / length of the longer one. `structure` looks at rows and spans only. Tables are HTML or Markdown
    on either side; of several in an answer the last counts. A header cell counts like any cell (the public code leaves the text of
    `th` out), inline markup in cells is left out of account, and so are the sections where either table is Markdown. A reference
    has at most 500 nodes; an answer with more than twice the reference's is worth 0.

    Source: TEDS of PubTabNet (arXiv 1911.10683); `structure` is its TEDS-struct.

    Known cheats: several tables (the last counts); a right skeleton with empty cells (worth its rows' share; so weigh `structure` low);
    a giant table to hide the right one in (divided by the larger tree, and 0 beyond twice the nodes).

    Example: {text: "<answer>| a | b |\n|---|---|</answer>", target: {table: "| a |\n|---|"}} -> 0.667
    """

    structure: bool = False
    needs = ("text", "target.table")

    def load(self, device: str) -> None:
        try:
            import apted  # noqa: F401
            import lxml.html  # noqa: F401
        except ImportError as error:
            raise ConfigError("reward 'teds' needs the extra 'tables': pip install 'vlreward[tables]'") from error

    def one(self, rollout: Rollout) -> tuple[float, str]:
        wanted = _reference(rollout.sample.target["table"])
        found = self.answer(rollout)
        if found is None:
            return 0.0, "no <answer>...</answer>"
        answer = read_table(found)
        if answer is None:
            return 0.0, "no table in the answer"
        if answer.size > 2 * wanted.size:
            return 0.0, f"{answer.size} rows and cells, more than twice the {wanted.size} wanted"
        if not (_sectioned(answer) and _sectioned(wanted)):
            answer, wanted = _without_sections(answer), _without_sections(wanted)
        return tree_similarity(answer, wanted, self.structure), f"{answer.size} rows and cells, {wanted.size} wanted"


def tree_similarity(first: Node, second: Node, structure: bool = False) -> float:
    """1 - tree edit distance / nodes of the larger tree below its root, at least 0; 1 for two tables without rows."""
    if first == second:
        return 1.0
    from apted import APTED, Config

    class Costs(Config):
        def rename(self, node1: Node, node2: Node) -> float:
            if (node1.tag, node1.columns, node1.rows) != (node2.tag, node2.columns, node2.rows):
                return 1.0
            return 0.0 if structure else Levenshtein.normalized_distance(node1.text, node2.text)

        def children(self, node: Node) -> Sequence[Node]:
            return node.children

    larger = max(first.size, second.size, 1)
    return max(0.0, 1 - float(APTED(first, second, Costs()).compute_edit_distance()) / larger)


def read_table(text: str) -> Node | None:
    """The last HTML table of a text, else its last Markdown table; None without one."""
    return _html(text) if "<table" in text.lower() else _markdown(text)


def _html(text: str) -> Node | None:
    import lxml.html

    parser = lxml.html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        document = lxml.html.document_fromstring(text.encode(errors="replace"), parser=parser)
    except (lxml.html.etree.LxmlError, ValueError):
        return None
    tables = [table for table in document.iter("table") if next(table.iterancestors("td", "th"), None) is None]
    return Node("table", children=tuple(_rows(tables[-1]))) if tables else None


def _rows(parent: Any) -> Iterable[Node]:
    for element in parent.iterchildren():
        if element.tag in SECTIONS and parent.tag == "table":
            yield Node(element.tag, children=tuple(_rows(element)))
        elif element.tag == "tr":
            yield Node("tr", children=tuple(_cell(cell) for cell in element.iterchildren("td", "th")))


def _cell(element: Any) -> Node:
    return Node("td", _span(element.get("colspan")), _span(element.get("rowspan")), " ".join(element.text_content().split()))


def _span(value: str | None) -> int:
    return int(value) if value and re.fullmatch(r"[0-9]{1,4}", value) else 1


def _markdown(text: str) -> Node | None:
    lines = text.splitlines()
    rules = [i for i, line in enumerate(lines) if i and "|" in lines[i - 1] and "|" in line and all(map(RULE.fullmatch, _split(line)))]
    if not rules:
        return None
    body = lines[rules[-1] + 1 :]
    end = next((i for i, line in enumerate(body) if "|" not in line), len(body))
    rows = [lines[rules[-1] - 1], *body[:end]]
    return Node("table", children=tuple(Node("tr", children=tuple(Node("td", text=cell) for cell in _split(row))) for row in rows))


def _split(line: str) -> list[str]:
    line = line.strip().removeprefix("|")
    line = line[:-1] if BAR.search(line[-2:]) and line.endswith("|") else line
    return [" ".join(cell.replace("\\|", "|").split()) for cell in BAR.split(line)]


def _sectioned(table: Node) -> bool:
    return any(child.tag in SECTIONS for child in table.children)


def _without_sections(table: Node) -> Node:
    rows = [row for child in table.children for row in (child.children if child.tag in SECTIONS else [child])]
    return Node("table", children=tuple(rows))


@lru_cache(maxsize=256)
def _parsed(table: str) -> Node:
    node = read_table(table)
    if node is None or not node.size:
        raise DataError(f"target.table is {table[:60]!r}, expected a table in HTML or Markdown")
    if node.size > MAX_NODES:
        raise DataError(f"target.table has {node.size} rows and cells, more than the {MAX_NODES} allowed")
    return node


def _reference(table: Any) -> Node:
    if not isinstance(table, str):
        raise DataError(f"target.table is {table!r}, expected a table in HTML or Markdown")
    return _parsed(table)
