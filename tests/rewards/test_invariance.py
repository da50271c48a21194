"""What must not matter does not: the order of boxes, rows and words; and junk beside an answer never raises its score."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cases import CASES, SCHEMA, made, page

from vlreward.models.detector import Detection, Detector
from vlreward.models.ocr import Line
from vlreward.rewards.geneval import GenEval
from vlreward.rewards.motions import CountOverTime, MotionMatch
from vlreward.rewards.objects import ObjectMatch
from vlreward.rewards.ocr import glyph_similarity
from vlreward.types import Rollout, Sample

Items = list[Any]
SEEDS = range(150)
WORDS = "red blue cat dog on the of left open nine 24 small".split()


@dataclass(kw_only=True)
class Listing:
    """A task whose answer is a list, as a function of a seed: what is wanted, what a partly right answer lists, and what is junk."""

    kind: str
    task: Callable[[random.Random], tuple[Items, Items, Items]]
    """Wanted items, answered items, and items that have nothing in common with what is wanted."""
    write: Callable[[Items], str]
    target: Callable[[Items], dict[str, Any]]
    keys: dict[str, Any]
    ordered: bool = False
    """Whether the order of the answer counts by design."""
    copies: bool = True
    """Whether a copy of an answered item is junk; False where it may stand for another wanted one."""


def boxes(rng: random.Random) -> tuple[Items, Items, Items]:
    """Boxes with labels, each in a cell of its own of a 5 x 5 grid; answered ones are moved a little; junk lies in empty cells."""
    cells = rng.sample([(20 * x, 20 * y) for x in range(5) for y in range(5)], 12)
    put = lambda x, y: [x + rng.randint(0, 4), y + rng.randint(0, 4), x + rng.randint(10, 18), y + rng.randint(10, 18)]  # noqa: E731
    labels = [rng.choice("ab") for _ in cells]
    wanted = [(put(x, y), label) for (x, y), label in zip(cells[:4], labels)]
    answered = [(put(x, y), label if rng.random() < 0.8 else "c") for (x, y), label in zip(cells[:4], labels)]
    junk = [(put(x, y), label) for (x, y), label in zip(cells[4:], labels[4:])]
    return wanted[: rng.randint(1, 4)], answered, junk


def write_boxes(items: Items) -> str:
    return json.dumps([{"bbox_2d": box, "label": label} for box, label in items])


def box_target(items: Items) -> dict[str, Any]:
    return {"boxes": [box for box, _ in items], "labels": [label for _, label in items], "size": [100, 100]}


def write_points(items: Items) -> str:
    return ", ".join(f"({(a + c) / 2}, {(b + d) / 2})" for (a, b, c, d), _ in items)


def polygon_target(items: Items) -> dict[str, Any]:
    return {"polygons": [corners(box) for box, _ in items], "size": [100, 100]}


def corners(box: list[int]) -> list[list[int]]:
    a, b, c, d = box
    return [[a, b], [c, b], [c, d]]


def mask(box: list[int]) -> dict[str, Any]:
    """Run lengths of a box in a picture of 100 x 100, column by column."""
    a, b, c, d = box
    high = d - b
    counts = [100 * a + b, *[high, 100 - high] * (c - a - 1), high, 100 * (100 - c) + 100 - d]
    return {"size": [100, 100], "counts": counts}


def tracks(rng: random.Random) -> tuple[Items, Items, Items]:
    """(frame, id, box): two things over three frames, each in a row of its own; junk in other rows under other ids."""
    put = lambda row: [rng.randint(0, 4), 30 * row, rng.randint(10, 20), 30 * row + rng.randint(10, 25)]  # noqa: E731
    wanted = [(frame, thing, put(thing)) for frame in range(3) for thing in range(2)]
    answered = [(frame, thing, put(thing)) for frame, thing, _ in wanted if rng.random() < 0.8 or frame == 0]
    return wanted, answered, [(rng.randint(0, 2), i, put(2)) for i in range(7, 11)]


def write_tracks(items: Items) -> str:
    return json.dumps([{"frame": frame, "id": name, "bbox_2d": box} for frame, name, box in items])


def tubes(items: Items) -> dict[str, Any]:
    return {"tubes": [[next(box for f, t, box in items if (f, t) == (frame, thing)) for thing in range(2)] for frame in range(3)]}


def spans(rng: random.Random) -> tuple[Items, Items, Items]:
    start = lambda low: (low + rng.randint(0, 4), low + rng.randint(5, 9))  # noqa: E731
    return [start(0), start(20)], [start(0), start(20)][: rng.randint(1, 2)], [start(40), start(60)]


def changes(rng: random.Random) -> tuple[Items, Items, Items]:
    make = lambda things: [(thing, rng.choice(("color", "size")), rng.choice(("red", "large"))) for thing in things]  # noqa: E731
    wanted = make("abcd"[: rng.randint(1, 4)])
    return wanted, [change if rng.random() < 0.5 else make(change[0])[0] for change in wanted], make("xyz")


def rows(rng: random.Random) -> tuple[Items, Items, Items]:
    """Rows (header, two numbers); answered numbers a little off; junk rows have headers and numbers far from all."""
    wanted = [(name * 6, rng.randint(1, 99), rng.randint(1, 99)) for name in "abcd"[: rng.randint(2, 4)]]
    answered = [(name, first + rng.choice((0, 0, 1, 50)), second) for name, first, second in wanted]
    return wanted, answered, [(name * 9, 10**9 + i, 10**8) for i, name in enumerate("xyz")]


def write_rows(items: Items) -> str:
    return "\n".join(["key | first | second", *(" | ".join(map(str, row)) for row in items)])


def sentence(rng: random.Random) -> tuple[Items, Items, Items]:
    wanted = rng.sample(WORDS, rng.randint(2, 6))
    answered = [word if rng.random() < 0.7 else "zzz" for word in wanted]
    return wanted, answered, ["qqqq", "xxxx", "vvvv"]


def ranking(rng: random.Random) -> tuple[Items, Items, Items]:
    return ["a", "b", "c"], rng.sample(list("abcdef"), rng.randint(1, 6)), ["w1", "w2", "w3"]


def statements(rng: random.Random) -> tuple[Items, Items, Items]:
    def line(name: str) -> str:
        color = rng.choice(("red", "blue"))
        return f"plt.{rng.choice(('bar', 'plot'))}(['{name}', 'k'], [{rng.randint(1, 9)}, 5], color='{color}')"

    wanted = [line(name) for name in "abc"]
    junk = ["plt.pie([1e9, 2e9])", "plt.hist([7e9, 8e9])", "plt.title('unheard of')"]
    return wanted, [text if rng.random() < 0.5 else line("z") for text in wanted], junk


def listing(kind: str, task, write, target, ordered: bool = False, copies: bool = True, **keys) -> Listing:
    return Listing(kind=kind, task=task, write=write, target=target, keys=keys, ordered=ordered, copies=copies)


LISTINGS = [
    *(listing("box_iou", boxes, write_boxes, box_target, **keys) for keys in ({}, {"form": "steps"}, {"form": "hit", "floor": 0.5})),
    listing("click_box", boxes, write_boxes, box_target, size=0.0),
    listing("point_in_box", boxes, write_points, box_target),
    *(listing("detection_f1", boxes, write_boxes, box_target, **keys) for keys in ({}, {"soft": True}, {"classes": False}, {"at": 0.1})),
    *(listing("detection_map", boxes, write_boxes, box_target, **keys) for keys in ({}, {"at": 0.5}, {"length": True})),
    listing("detection_score", boxes, write_boxes, box_target),
    *(listing("precision_recall", boxes, write_boxes, box_target, mean=mean) for mean in ("arithmetic", "harmonic")),
    listing("complete_detection", boxes, write_boxes, box_target),
    listing("polygon_iou", boxes, lambda items: json.dumps([corners(box) for box, _ in items]), polygon_target),
    listing(
        "mask_iou", boxes, lambda items: json.dumps([mask(box) for box, _ in items]), lambda items: {"masks": [mask(b) for b, _ in items]}
    ),
    listing("tube_iou", tracks, write_tracks, tubes),
    listing("hota", tracks, write_tracks, tubes),
    listing("temporal_iou", spans, lambda items: ", ".join(f"{a} - {b}" for a, b in items), lambda items: {"spans": list(items)}),
    listing(
        "change_match", changes, lambda items: " ".join(f"({', '.join(item)})" for item in items), lambda items: {"changes": list(items)}
    ),
    listing("table_rms", rows, write_rows, lambda items: {"table": write_rows(items)}),
    listing("table_rnss", rows, write_rows, lambda items: {"table": write_rows(items)}),
    listing("word_f1", sentence, " ".join, lambda items: {"text": " ".join(items)}, order="free"),
    listing("word_f1", sentence, " ".join, lambda items: {"text": " ".join(items)}, ordered=True, copies=False),
    listing("rouge_l", sentence, " ".join, lambda items: {"answer": " ".join(items)}, ordered=True, copies=False),
    listing("word_accuracy", sentence, " ".join, lambda items: {"text": " ".join(items)}, ordered=True, copies=False),
    listing("relaxed_accuracy", sentence, ", ".join, lambda items: {"answer": ", ".join(items)}),
    *(
        listing(
            "reranking",
            ranking,
            " > ".join,
            lambda items: {"relevant": items, "candidates": list("abcdef")},
            ordered=True,
            measure=measure,
            k=k,
        )
        for measure in ("ndcg", "recall", "mrr")
        for k in (None, 2)
    ),
    listing("chart_rules", statements, "\n".join, lambda items: {"code": "\n".join(items)}, copies=False),
]
NAMES = [f"{case.kind}-{','.join(map(str, case.keys.values()))}" for case in LISTINGS]


def judged(reward, *pairs: tuple[str, dict[str, Any]]) -> list[float]:
    output = reward.score(
        [Rollout(sample=Sample(id="s", prompt="p", target=target), text=f"<answer>{text}</answer>") for text, target in pairs]
    )
    assert not any(output.errors), output.errors
    return output.scores.tolist()


@pytest.mark.parametrize("case", LISTINGS, ids=NAMES)
def test_order_on_either_side_changes_nothing(case):
    reward, pairs = made(case.kind, **case.keys), []
    for seed in SEEDS:
        rng = random.Random(seed)
        wanted, answered, junk = case.task(rng)
        answered = answered + junk[: rng.randint(0, 2)]
        mixed = answered if case.ordered else rng.sample(answered, len(answered))
        turned = wanted if case.ordered and case.kind != "reranking" else rng.sample(wanted, len(wanted))
        pairs += [(case.write(answered), case.target(wanted)), (case.write(mixed), case.target(turned))]
    scores = judged(reward, *pairs)
    assert scores[::2] == pytest.approx(scores[1::2], abs=1e-12)
    assert len(set(scores)) > 2 or case.kind == "relaxed_accuracy"


@pytest.mark.parametrize("case", LISTINGS, ids=NAMES)
def test_junk_and_copies_never_raise_a_score(case):
    reward, plain, spoilt = made(case.kind, **case.keys), [], []
    for seed in SEEDS:
        rng = random.Random(seed)
        wanted, answered, junk = case.task(rng)
        for items in (answered, wanted):
            extra = rng.sample(junk, rng.randint(1, len(junk)))
            extra += rng.choices(items, k=rng.randint(0, 3)) if case.copies else []
            spots = [rng.randint(0, len(items)) for _ in extra] if not case.ordered else [len(items)] * len(extra)
            longer = list(items)
            for spot, item in zip(spots, extra):
                longer.insert(spot, item)
            plain.append((case.write(items), case.target(wanted)))
            spoilt.append((case.write(longer), case.target(wanted)))
    before, after = judged(reward, *plain), judged(reward, *spoilt)
    raised = [(spoilt[i], a, b) for i, (a, b) in enumerate(zip(before, after)) if b > a + 1e-12]
    assert not raised, f"{len(raised)} of {len(plain)}: {raised[0]}"
    assert after != before or case.kind == "table_rnss", "nothing was lost anywhere"


EXTRA = [
    ("anls", {"answer": "Paris"}, "Paris", "London"),
    ("character_accuracy", {"text": "OPEN"}, "OPEN", "OPEN"),
    ("count_match", {"answer": 4}, "four", "or five"),
    ("detection_format", {}, '[{"bbox_2d": [0, 0, 4, 4], "label": "cat"}]', "and that is all"),
    ("exact_match", {"answer": "red"}, "red", "blue"),
    ("formula_similarity", {"formula": "x^2"}, "x^2", "= y"),
    ("json_schema", {"schema": SCHEMA}, '{"box": [1]}', '{"box": [2]}'),
    ("math_equal", {"answer": "5"}, "$5$", "or $6$"),
    ("multiple_choice", {"answer": "B"}, "B", "(C)"),
    ("numeric_match", {"answer": 7}, "7", "or 8"),
    ("relaxed_accuracy", {"answer": 7}, "7", "or 8"),
    ("rouge_l", {"answer": "a red cat"}, "a red cat", "and a dog"),
    ("transcript_match", {"text": "OPEN"}, "OPEN", "24"),
    ("word_accuracy", {"text": "a red cat"}, "a red cat", "dog"),
    ("word_f1", {"text": "a red cat"}, "a red cat", "dog"),
]


@pytest.mark.parametrize(("kind", "target", "right", "extra"), EXTRA, ids=[row[0] for row in EXTRA])
def test_extra_text_on_either_side_of_a_right_answer_costs(kind, target, right, extra):
    texts = (right, f"{right} {extra}", f"{extra} {right}", f"{extra} {right} {extra}")
    exact, *others = judged(made(kind), *((text, target) for text in texts))
    assert exact == 1
    assert max(others) < 1


BEST = """
anls box_iou change_match character_accuracy chart_rules click_box complete_detection count_match detection_f1 detection_map detection_score
exact_match formula_similarity hota json_schema mask_iou multiple_choice numeric_match polygon_iou precision_recall relaxed_accuracy
reranking rouge_l table_rms table_rnss teds temporal_iou transcript_match tube_iou word_accuracy word_f1
""".split()


@pytest.mark.parametrize("kind", BEST)
def test_the_right_answer_scores_the_top_of_the_range(kind):
    """So that tasks in cases.py are what they say, and what is tampered with was right before."""
    reward = made(kind, **CASES[kind].settings[0])
    scores = judged(reward, *((answer, target) for target, answer in CASES[kind].tasks))
    assert scores == pytest.approx([reward.bounds[1]] * len(scores))


class Found(Detector):
    """Finds what it is told, in that order."""

    def __init__(self, found: list[list[Detection]]):
        self.found = found

    def detect(self, pictures, labels):
        return self.found


SCENES = [
    (
        ObjectMatch,
        {
            "objects": [{"label": "cat", "color": "red", "count": 2}, {"label": "dog"}],
            "relations": [{"subject": 0, "relation": "above", "object": 1}],
        },
    ),
    (
        MotionMatch,
        {"motions": [{"label": "cat", "color": "red", "direction": "still"}, {"label": "dog", "direction": "up"}]},
    ),
    (CountOverTime, {"objects": [{"label": "cat", "color": "red", "count": 3}, {"label": "dog"}]}),
    (
        lambda **keys: GenEval(graded=True, **keys),
        {"include": [{"class": "cat", "count": 2, "color": "red"}, {"class": "dog", "count": 1, "position": ["above", 0]}]},
    ),
]


def detections(rng: random.Random, labels: str, count: int) -> list[Detection]:
    """Objects with confidences that all differ."""
    places = [(rng.uniform(0, 80), rng.uniform(0, 80)) for _ in range(count)]
    return [
        Detection(rng.choice(labels.split()), rng.choice(("red", "blue")), (x, y, x + 9.0, y + 9.0), rng.uniform(0.5, 1)) for x, y in places
    ]


@pytest.mark.parametrize(("reward", "target"), SCENES, ids=["object_match", "motion_match", "count_over_time", "geneval"])
def test_objects_count_in_any_order_and_things_nobody_asked_for_never_help(reward, target):
    rng = random.Random(0)
    scenes = [detections(rng, "cat dog", rng.randint(0, 5)) for _ in range(500)]
    mixed = [rng.sample(scene, len(scene)) for scene in scenes]
    crowded = [scene + detections(rng, "bird boat", rng.randint(1, 4)) for scene in scenes]
    rows = [Rollout(sample=Sample(id="s", prompt="p", target=target), made=page(rng)) for _ in scenes]
    before, shuffled, after = (reward(detector=Found(found)).score(rows).scores.tolist() for found in (scenes, mixed, crowded))
    assert before == pytest.approx(shuffled, abs=1e-12)
    assert all(b <= a + 1e-12 for a, b in zip(before, after))
    assert len(set(before)) > 5


def test_words_in_a_picture_count_in_any_order_where_order_is_free_and_words_beside_them_cost():
    rng = random.Random(0)
    for _ in range(200):
        wanted = rng.sample(WORDS, rng.randint(1, 5))
        lines = [Line(word, (0.0, 0.0, 9.0, 9.0), 1.0) for word in rng.sample(wanted, rng.randint(1, len(wanted)))]
        text = " ".join(wanted)
        free = glyph_similarity(lines, text, "free")
        assert glyph_similarity(rng.sample(lines, len(lines)), text, "free") == pytest.approx(free, abs=1e-12)
        whole = [Line(word, (0.0, 0.0, 9.0, 9.0), 1.0) for word in wanted]
        assert glyph_similarity([*whole, lines[0]], text, "free") < 1 == glyph_similarity(whole, text, "free")
