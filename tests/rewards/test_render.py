import pytest
from PIL import Image, ImageDraw

from vlreward.data.media import Picture
from vlreward.errors import ConfigError
from vlreward.rewards.render import SvgSimilarity, TableSimilarity
from vlreward.rewards.table_picture import draw_tables, read_grid
from vlreward.sandbox.wall import check

START = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="200" height="100">'
INSIDE = '<rect x="10" y="10" width="50" height="50" fill="red"/><text x="80" y="50" font-family="Arial">Hello</text>'
SVG = f"{START}{INSIDE}</svg>"
TABLE = "<table><tr><th>year</th><th colspan='2'>sales</th></tr><tr><td>1999</td><td>200</td><td>158</td></tr></table>"


@pytest.fixture(scope="module")
def sandbox():
    try:
        check()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("sandbox")
def test_the_wanted_svg_scores_one_and_others_less(score):
    answers = [SVG, f"```svg\n{SVG}\n```", SVG.replace("red", "#ff0000"), SVG.replace('x="10"', 'x="12"'), SVG.replace("red", "blue")]
    typed = '<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">' + SVG
    same, fenced, renamed, moved, blue, typed = score(SvgSimilarity(), *answers, typed, svg=SVG)
    assert same == fenced == renamed == typed == pytest.approx(1.0)
    assert 1 > moved > blue > 0
    assert score(SvgSimilarity(encoder="assets/tiny-clip"), SVG, svg=SVG) == pytest.approx([1.0])


@pytest.mark.usefixtures("sandbox")
def test_an_svg_is_drawn_as_another_renderer_would(rollout):
    image = Image.new("RGB", (768, 384), "white")
    ImageDraw.Draw(image).rectangle((38.4, 38.4, 230, 230), fill="red")
    ImageDraw.Draw(image).ellipse((400, 100, 600, 300), fill="blue")
    drawn = '<rect x="10" y="10" width="50" height="50" fill="red"/><circle cx="130.2" cy="52.1" r="26" fill="blue"/>'
    output = SvgSimilarity().score([rollout(f"{START}{drawn}</svg>", visuals=[Picture(image)]), rollout(SVG)])
    assert output.scores[0] > 0.95
    assert output.scores[1].isnan()


BOMB = "".join(f'<g id="a{i}">' + f'<use xlink:href="#a{i - 1}"/>' * 10 + "</g>" for i in range(1, 9))


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(
    "hostile",
    [
        '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + SVG.replace("Hello", "&x;"),
        '<!DOCTYPE svg [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + SVG.replace("Hello", "&b;"),
        f'{START}<image href="file:///etc/passwd" width="9" height="9"/>{INSIDE}</svg>',
        f'{START}<image xlink:href="data:image/png;base64,iVBORw0KGgo=" width="9" height="9"/>{INSIDE}</svg>',
        f'{START}<use href="http://127.0.0.1/x.svg#a"/>{INSIDE}</svg>',
        f'{START}<rect fill="url(http://127.0.0.1/x)" width="9" height="9"/>{INSIDE}</svg>',
        f"{START}<style>@import 'http://127.0.0.1/x.css';</style>{INSIDE}</svg>",
        f"{START}<script>1</script>{INSIDE}</svg>",
        f"{START}<foreignObject/>{INSIDE}</svg>",
        f'{START}<defs><g id="a0"><rect width="1" height="1"/></g>{BOMB}</defs><use xlink:href="#a8"/></svg>',
        START.replace('"200"', '"2e30"') + INSIDE + "</svg>",
        START + "<g>" * 30_000,
        START + "<g/>" * 30_000 + "</svg>",
        START + "<g>" * 3000 + "</g>" * 3000 + "</svg>",
        f"{START}</svg>",
        SVG[:-3],
        "<html/>",
        "",
    ],
)
def test_a_hostile_or_broken_svg_scores_zero(score, hostile):
    assert score(SvgSimilarity(), hostile, SVG, svg=SVG) == [0.0, pytest.approx(1.0)]


@pytest.mark.usefixtures("sandbox")
def test_a_broken_wanted_svg_costs_its_own_row_only(rollout):
    output = SvgSimilarity().score([rollout(SVG, svg="<svg"), rollout(SVG, svg=SVG), rollout(SVG, svg=5)])
    assert [error is None for error in output.errors] == [False, True, False]


def test_the_wanted_table_scores_one_in_either_notation(score):
    markdown = "| year | sales |\n|---|---|\n| 1999 | 200 |"
    assert score(TableSimilarity(), f"<answer>{TABLE}</answer>", table=TABLE) == pytest.approx([1.0])
    plain = "<table><tr><td>year</td><td>sales</td></tr><tr><td>1999</td><td>200</td></tr></table>"
    assert score(TableSimilarity(tags=False), markdown, plain, "year | sales\n1999 | 200", table=markdown) == pytest.approx([1.0] * 3)
    assert score(TableSimilarity(tags=False, encoder="assets/tiny-clip"), TABLE, table=TABLE) == pytest.approx([1.0])


def test_wrong_words_wrong_places_and_empty_frames_score_less(score):
    answers = [
        TABLE.replace("158", "159"),
        TABLE.replace("1999", "2024"),
        TABLE.replace("colspan='2'", ""),
        TABLE.replace("<tr><th>", "<tr></tr><tr><th>"),
    ]
    empty = TABLE.replace("year", "").replace("sales", "").replace("1999", "").replace("200", "").replace("158", "")
    one, four, span, row, frame, none = score(TableSimilarity(tags=False), *answers, empty, "no table", table=TABLE)
    assert 1 > one > four > 0.3
    assert 0 < span < 0.95
    assert row < 0.5
    assert frame == none == 0


def test_cells_are_placed_as_html_does():
    cells = read_grid("<table><tr><td rowspan=2>a</td><td>b</td></tr><tr><td>c</td></tr></table>")
    assert [(cell.row, cell.column, cell.down, cell.across, cell.text) for cell in cells] == [
        (0, 0, 2, 1, "a"),
        (0, 1, 1, 1, "b"),
        (1, 1, 1, 1, "c"),
    ]
    big = read_grid("<table>" + "<tr>" + "<td rowspan=9999 colspan=9999>x</td>" * 50 + "</tr></table>")
    assert draw_tables(big)[0].size == (20 * 108, 60 * 22)


def test_hostile_answers_stay_in_bounds(rollout, hostile):
    output = TableSimilarity(tags=False).score([rollout(text, table=TABLE) for text in hostile[:300]])
    assert output.errors == [None] * 300
    assert ((output.scores >= 0) & (output.scores <= 1)).all()


@pytest.mark.parametrize("table", ["", "no table", 5, "<table></table>"])
def test_a_broken_wanted_table_costs_its_own_row_only(rollout, table):
    output = TableSimilarity(tags=False).score([rollout(TABLE, table=table), rollout(TABLE, table=TABLE)])
    assert [error is None for error in output.errors] == [False, True]
