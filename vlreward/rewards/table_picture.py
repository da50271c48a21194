"""Draw tables as pictures in which a cell's place depends on its row and column only."""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from vlreward.data.media import Picture
from vlreward.rewards.chart_tables import split_rows
from vlreward.rewards.tables import SECTIONS, read_table

WIDTH, HEIGHT = 108, 22
"""Pixels of a cell."""
ROWS, COLUMNS, LETTERS = 60, 20, 14
MAX_TEXT = 200_000
SIZE = 12


class Cell(NamedTuple):
    """A cell in its place; `down` and `across` count the rows and columns it covers."""

    row: int
    column: int
    down: int
    across: int
    text: str


def read_grid(text: str) -> list[Cell]:
    """The cells of an HTML or Markdown table, or of rows by newline and cells by ' | '; empty without any text in a cell."""
    text = text[:MAX_TEXT]
    table = read_table(text)
    if table is not None:
        rows = [row for part in table.children for row in (part.children if part.tag in SECTIONS else [part])]
        entries = [[(cell.text, max(cell.rows, 1), max(cell.columns, 1)) for cell in row.children] for row in rows]
    else:
        entries = [[(cell, 1, 1) for cell in row] for row in split_rows(text) if len(row) > 1]
    cells: list[Cell] = []
    taken: set[tuple[int, int]] = set()
    for row, line in enumerate(entries[:ROWS]):
        column = 0
        for words, down, across in line:
            while (row, column) in taken:
                column += 1
            if column >= COLUMNS:
                break
            cells.append(Cell(row, column, min(down, ROWS - row), min(across, COLUMNS - column), words))
            taken |= {(row + i, column + j) for i in range(cells[-1].down) for j in range(cells[-1].across)}
    return cells if any(cell.text for cell in cells) else []


def draw_tables(*tables: list[Cell]) -> list[Picture]:
    """Pictures of one common size: each cell's text in the middle of what it covers, without lines."""
    height = max(cell.row + cell.down for cells in tables for cell in cells) * HEIGHT
    width = max(cell.column + cell.across for cells in tables for cell in cells) * WIDTH
    font = ImageFont.load_default(SIZE)
    pictures = []
    for cells in tables:
        image = Image.new("RGB", (width, height), "white")
        pen = ImageDraw.Draw(image)
        for cell in cells:
            middle = (cell.column + cell.across / 2) * WIDTH, (cell.row + cell.down / 2) * HEIGHT
            pen.text(middle, cell.text[: LETTERS * cell.across], fill="black", font=font, anchor="mm")
        pictures.append(Picture(image))
    return pictures
