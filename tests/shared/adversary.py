"""Texts that a policy might write to confuse a reward: pieces of answers in any order, and right answers that were tampered with."""

from __future__ import annotations

import random
from collections.abc import Sequence

TAGS = (
    *("<answer>", "</answer>", "<think>", "</think>", "<look>", "</look>", "```json", "```", "```python\n", "<|box_start|>", "<|box_end|>"),
    *("<ref>", "</ref>", "<answer", "answer>", "</answer></answer>", "<ANSWER>", "<!--", "]]>", "<![CDATA[", "&lt;answer&gt;", "&#60;"),
)
PLACES = (
    *("[10, 10, 30, 30]", "[[10, 10], [30, 10], [30, 30]]", "(10,10),(30,30)", "(20, 20)", "[30, 30, 10, 10]", "[1e999, 0, -1e999, 5]"),
    *('{"bbox_2d": [10, 10, 30, 30], "label": "cat"}', '{"point_2d": [20, 20]}', '{"bbox_2d": [1, 2, 3], "label": 5}', "{'label': 'cat'}"),
    *(
        '{"bbox_2d": [true, null, "1", {}]}',
        '{"bbox_2d": {"x": 1}}',
        '{"label": ["cat"], "bbox_2d": [0, 0, 4, 4]}',
        '{"bbox": [0, 0, 4, 4]}',
    ),
    *('{"frame": 0, "id": 1, "bbox_2d": [0, 0, 9, 9]}', '{"frame": -1.5, "bbox_2d": [0, 0, 9, NaN]}', '{"size": [2, 2], "counts": "02"}'),
    *('{"frame": 1e308, "id": [], "bbox_2d": [0, 0, 9, 9]}', '{"frame": true, "id": null, "bbox_2d": [0, 0, 1e308, 1e308]}'),
    *(
        '{"size": [2, 2], "counts": [0, 4]}',
        '{"size": [1e300, 2], "counts": "~~~~"}',
        '{"size": [0, 0], "counts": []}',
        "[-1e308, 0, 1e308, 9]",
    ),
    *('{"object": 3, "attribute": "color", "value": "red"}', "(3, color, red)", '{"object": {}, "value": [1]}', "[NaN, NaN, NaN, NaN]"),
    *(
        "frame 0: [1, 2, 3, 4]",
        "frame 99999999999: [1, 2, 3, 4]",
        "frame \u0663, id \u0664: [1, 2, 3, 4]",
        "[\u0661, \u0662, \u0663, \u0664]",
    ),
    *(
        "10 - 20",
        "0:12 to 1:02",
        "20-10",
        "from 5s until",
        '{"start": 1, "end": 2}',
        "99:99:99 - 1e5",
        "1:2:3:4:5 to 9",
        "start: 0 end: \u0663",
    ),
)
NUMBERS = (
    *(
        "three",
        "none",
        "two hundred and",
        "1,200",
        "nine hundred thousand million",
        "1e309",
        "-1e309",
        "1e-320",
        "0.1",
        "7",
        "-0",
        "+5",
        "05",
    ),
    *(
        "9" * 400,
        "0." + "0" * 400 + "1",
        "1" + ",000" * 200,
        "\u0663",
        "\u00bd",
        "\u216b",
        "1\u202f000",
        "1/0",
        "0/0",
        "\\frac{1}{0}",
        "50%",
    ),
    *(
        "3 km",
        "5 m/s^2",
        "2 dozen",
        "$1,000",
        "(7)",
        "12 million",
        "1e3%",
        "10**10**10",
        "2^2^2^2^2",
        "m**4**4**4",
        "NaN",
        "Infinity",
        "nan",
        "inf",
    ),
)
WORDS = (
    *(
        "cat",
        "red",
        "Paris",
        "the",
        "A",
        "(B)",
        "B.",
        "The answer is C",
        "yes",
        "null",
        "true",
        "x = 5",
        "\\boxed{",
        "\\boxed{7}",
        "$x^2$",
        "$$",
    ),
    *(
        "\\text{a}",
        "{{{",
        "}}}",
        "\\left(",
        "\\begin{equation}",
        "| a | b |",
        "|---|---|",
        "a | 1 | 2\n",
        "<table>",
        "<tr><td colspan=9999>",
        "</td>",
    ),
    *(
        "<table><tr><td>a</td></tr></table>",
        "<table><table>",
        "<td rowspan='-1'>",
        "title | x",
        "|" * 50,
        "plt.bar([1], [2])",
        "import os\n",
    ),
    *(
        "A sentence. Another one! A third?",
        "红色的圆。",
        "これは赤い",
        "e\u0301\u0327\u0323",
        "\u200d\u200b\ufeff",
        "\u202eabc",
        "ﬁ ＯＰＥＮ",
        "İ",
        "ß",
        "ſ",
    ),
    *(
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\ud83d",
        "\udc00",
        "\0",
        "\x1b[31m",
        "\x85",
        "\u2028",
        "\r\n",
        "\t",
        "\ufffd",
        "\U0010ffff",
        "\ufdfa",
    ),
)
MARKS = (*"[](){},:\"'-.e|/\\^$%#&*+=<>~`@!?;_", " ", "\n", "[]", "{}", "\\")
PIECES = TAGS + PLACES + NUMBERS + WORDS + MARKS
LONG = 100_000
"""Characters of the longest answers."""


def hostile_texts(count: int, seed: int = 0) -> list[str]:
    """Texts of up to a dozen pieces, most of them inside of answer tags, some cut short, a few nested deeply or 100,000 characters long."""
    rng = random.Random(seed)
    texts = []
    for i in range(count):
        if i % 2000 == 1999:
            text = giant(rng)
        else:
            text = rng.choice(("", " ", ", ", "\n")).join(rng.choices(PIECES, k=rng.randint(0, 12)))
        if rng.random() < 0.3:
            text = text[: rng.randint(0, len(text))]
        texts.append(f"<answer>{text}</answer>" if rng.random() < 0.8 else text)
    return texts


def giant(rng: random.Random) -> str:
    """One piece, or two in turn, over and over up to LONG characters; or opening marks only."""
    piece = (
        rng.choice(("[", "{", "(", '{"a":', "<answer>", "<td>"))
        if rng.random() < 0.3
        else "".join(rng.choices(PIECES, k=rng.randint(1, 2)))
    )
    return (piece * (LONG // len(piece) + 1))[:LONG]


def tampered(answers: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """Right answers, cut, doubled, reversed, crossed with each other or with hostile pieces, and a few as they are."""
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        text = rng.choice(answers)
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            text = _tamper(text, rng, answers)
        kept = rng.random()
        texts.append(f"<answer>{text}</answer>" if kept < 0.9 else f"<think>{text}</think><answer>{text}</answer>" if kept < 0.95 else text)
    return texts


def _tamper(text: str, rng: random.Random, others: Sequence[str]) -> str:
    start, end = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
    return rng.choice(
        (
            lambda: text[:end],
            lambda: text[:start] + text[end:],
            lambda: text + rng.choice((" ", "\n", ", ", "")) + text,
            lambda: text[:start] + rng.choice(PIECES) + text[start:],
            lambda: text[:start] + rng.choice(PIECES) + text[end:],
            lambda: text[:start] + chr(rng.choice((48, 57, 45, 46, 32, 65, 97, 0x4E00, 0x1F600))) + text[start + 1 :],
            lambda: text[:end] + rng.choice(others)[start:],
            lambda: " ".join(rng.sample(text.split(" "), len(text.split(" ")))),
            lambda: text[::-1],
            lambda: text.upper(),
            lambda: text[:start] + text[start:end] * rng.randint(2, 30) + text[end:],
            lambda: f"[{text}]",
        )
    )()
