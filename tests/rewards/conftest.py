"""Answers that a policy might write to confuse a reward."""

from __future__ import annotations

import random

import pytest

PIECES = (
    *(
        "<answer>",
        "</answer>",
        "<think>",
        "</think>",
        "<look>",
        "</look>",
        "```json",
        "```",
        "<|box_start|>",
        "<|box_end|>",
        "<ref>",
        "</ref>",
    ),
    *("[10, 10, 30, 30]", "[[10, 10], [30, 10], [30, 30]]", "(10,10),(30,30)", "(20, 20)", "[30, 30, 10, 10]", "[1e999, 0, -1e999, 5]"),
    *('{"bbox_2d": [10, 10, 30, 30], "label": "cat"}', '{"point_2d": [20, 20]}', '{"bbox_2d": [1, 2, 3], "label": 5}', "{'label': 'cat'}"),
    *('{"frame": 0, "id": 1, "bbox_2d": [0, 0, 9, 9]}', '{"frame": -1.5, "bbox_2d": [0, 0, 9, NaN]}', '{"size": [2, 2], "counts": "02"}'),
    *(
        '{"size": [2, 2], "counts": [0, 4]}',
        '{"size": [1e300, 2], "counts": "~~~~"}',
        '{"object": 3, "attribute": "color", "value": "red"}',
    ),
    *(
        "(3, color, red)",
        "10 - 20",
        "0:12 to 1:02",
        "20-10",
        "from 5s until",
        '{"start": 1, "end": 2}',
        "frame 0: [1, 2, 3, 4]",
        "three",
        "none",
    ),
    *(
        "two hundred and",
        "1,200",
        "[]",
        "{}",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        ",",
        ":",
        '"',
        "'",
        "-",
        ".",
        "e",
        "9" * 400,
        "\u0663",
        "\ud83d\ude00",
        "\0",
    ),
    *(" ", "\n", "cat", "NaN", "Infinity", "null", "true", "-0", "1e-320", "0.1", "7"),
)


@pytest.fixture(scope="session")
def hostile() -> list[str]:
    """1,500 texts of pieces of answers, most of them inside of answer tags, some cut short."""
    rng = random.Random(7)
    texts = []
    for _ in range(1500):
        text = rng.choice(("", " ", ", ")).join(rng.choices(PIECES, k=rng.randint(0, 12)))
        text = text[: rng.randint(0, len(text))] if rng.random() < 0.3 else text
        texts.append(f"<answer>{text}</answer>" if rng.random() < 0.8 else text)
    return texts


@pytest.fixture
def score(rollout):
    """Scores of answers to one task, none of which may break the reward."""

    def run(reward, *answers, **target):
        output = reward.score([rollout(answer, **target) for answer in answers])
        assert output.errors == [None] * len(answers), output.errors
        return output.scores.tolist()

    return run
