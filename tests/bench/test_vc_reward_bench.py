"""VC-RewardBench: what a rendered picture's faults add up to."""

import json

import pytest
from benchmarks import World

from vlreward.bench.base import Benchmark
from vlreward.bench.judged import Item, Judged
from vlreward.config import parse
from vlreward.data.source import BadRow
from vlreward.types import Comparison


def row(folder, category, faults):
    wanted, drawn = (World(folder).picture(k, "images") for k in (0, 1))
    return {"category": category, "gt_img_path": wanted, "pred_img_path": drawn, "human_errors": faults}


def benchmark(folder, rows) -> Benchmark:
    (folder / "VC-RewardBench.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return parse(Benchmark, {"kind": "vc_reward_bench", "path": str(folder)})


def test_severities_of_known_kinds_add_up_and_the_right_picture_is_the_samples(tmp_path):
    faults = [{"type": "text_error", "severity": 3}, {"type": "data_error", "severity": 1}, {"type": "shape_error", "severity": 3}]
    [found] = list(benchmark(tmp_path, [row(tmp_path, "chart", [*faults, {"type": "style_error"}])]))
    assert isinstance(found, Comparison) and found.scores == (-4.0,), "a chart has no shape_error, and a fault without severity counts 0"
    [rollout] = found.rollouts
    assert [fault["type"] for fault in rollout.sample.target["faults"]] == ["text_error", "data_error", "style_error"]
    assert rollout.sample.visuals[0].origin.endswith("0.png") and rollout.made is not None and rollout.made.origin.endswith("1.png")


def test_worse_pictures_that_score_lower_correlate_with_1_in_each_category(tmp_path):
    rows = [
        row(tmp_path, name, [{"type": "text_error", "severity": s}]) for name, s in (("chart", 1), ("chart", 3), ("table", 2), ("table", 1))
    ]
    found = benchmark(tmp_path, rows)
    items = [one for one in found if isinstance(one, Comparison)]
    judged = [Judged(item=Item.of(one), scores=(score,)) for one, score in zip(items, [0.9, 0.1, 0.2, 0.7], strict=True)]
    figures = {name: figure.value() for name, figure in found.figures(judged).items()}
    assert figures["chart severity"] == pytest.approx(1) == figures["table severity"] and 0 < figures["severity"] < 1
    assert "svg severity" not in figures


def test_lists_that_were_matched_give_a_hard_and_a_soft_f1_over_all_pictures(tmp_path):
    found = benchmark(tmp_path, [row(tmp_path, "chart", []), row(tmp_path, "svg", [])])
    names = ("matched", "partly", "surplus", "missed")
    parts = [dict(zip(names, ((value,) for value in values), strict=True)) for values in ((2.0, 1.0, 1.0, 0.0), (0.0, 0.0, 0.0, 2.0))]
    items = [Item.of(one) for one in found if isinstance(one, Comparison)]
    judged = [Judged(item=item, scores=(1.0,), parts=some) for item, some in zip(items, parts, strict=True)]
    figures = {name: figure.value() for name, figure in found.figures(judged).items()}
    assert figures["hard f1"] == pytest.approx(4 / (4 + 1 + 2)) and figures["soft f1"] == pytest.approx(5 / (5 + 1 + 2))
    assert "hard f1" not in found.figures([Judged(item=items[0], scores=(1.0,))])


@pytest.mark.parametrize(
    ("change", "problem"), [({"category": "map"}, "is 'map', expected one of table"), ({"human_errors": "none"}, "no list")]
)
def test_rows_of_another_kind_are_named(change, problem, tmp_path):
    [bad] = list(benchmark(tmp_path, [row(tmp_path, "chart", []) | change]))
    assert isinstance(bad, BadRow) and problem in bad.error
